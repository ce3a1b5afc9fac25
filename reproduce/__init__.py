"""Does fast axiomatic attribution hold? X-DNN, Integrated Gradients and MFABA, reproduced and measured.

This is the map. The methods and metrics themselves are the library ``xdnn``, which knows nothing of what follows.
``make table1`` goes through the Makefile, cli/run.py, studies/table1.py and pure functions of ``xdnn``.

What is asked

    studies               one file per table or figure: protocol, measuring function, rows, table, figure, claims
    study, claims         what a study is; what a claim allows, and how its outcome is found
    statistics            every mean with its interval, its n and the number of trainings behind it
    scales                smoke, embedded, subset, paper: on which nets and data the studies are run

What it is asked of

    models                architectures in the released layout, and nets whose weights ship in packages or in data/
    datasets              what is made here, embedded in packages, or fetched; which nets are explained on each
    training              recipes of the embedded nets, the papers' on image folders, priors, conversion of a trained net
    nets                  the nets of a scale, and the tasks that measure something on one

How it is computed

    tasks, cache          pieces of work with keys, and the files of the finished ones
    fingerprint           the code that a task's value depends on, as a hash: part of its key
    context, experiment   what a run decides once; what a measuring function may ask for
    engine, worker        unfinished tasks on Dask's workers, here or on a cluster
    runner, progress      studies from their tasks to their files, and what a user sees meanwhile
    provenance            time, commit, hardware, threads and versions of each number
    process_group         several processes of one training, under torchrun

What is made of it

    results, records      from finished tasks to a study's files, and those files read again
    report                tables, figures, findings in words, the page, README's blocks: from rows and result files only
    compare               two folders of results held against each other
    estimate              how long the rest of a scale will take on this device

What a user brings

    cli                   one file per command
    attribute, pictures   pictures and a net explained
    evaluate              methods by metrics on any net and data
    user_nets             a net by name, its weights (stripped_weights), head, preprocessing and class names
    packaged_nets         nets of torchvision and timm by name
    plugins, registries   methods, models, metrics, data sets, scales and studies of a user's own, and what they add to

What several studies share: maps and map_quality (attribution maps and what they are worth), rankings, quadrature, axiom_*
(of study axioms), mfaba_lines, prior_comparison, problems (words and molecules). Small tools: errors, files, paths,
randomness, timing, stopwatch, peak_memory.

Imports run one way: cli -> studies -> models, datasets, training -> xdnn; the report knows rows and result files only.
"""
