"""Training: small nets for the studies, with priors where they ask for them; the papers' recipes on image folders."""
