"""Two folders of results against each other: what is paired with what, and what counts as moved."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from command_line import ROWS, claim, invoke, result_folder

from reproduce.claims import Claim
from reproduce.compare import NUMBERS, LeftOut, Row, compare, difference_p, leave_one_out
from reproduce.errors import UserError
from reproduce.statistics import Interval, mean_interval


def moved(found):
    return found.rows.loc[found.rows["status"] == "moved", "what"].tolist()


def shifted(shift, model="b"):
    rows = ROWS.copy()
    rows.loc[rows["model"] == model, ["value", "low", "high"]] += shift
    return rows


# --- the test of a pair ---


def row(value, half, trainings=1, spread=math.nan):
    return Row(value, value - half, value + half, trainings, spread)


def test_two_means_differ_by_the_z_of_their_difference():
    """Standard errors of 3 and 4: 5 together; 1.96 of them are the 95 % point."""
    a, b = (row(v, 1.959964 * error) for v, error in ((0.0, 3.0), (9.8, 4.0)))
    assert difference_p(a, b) == pytest.approx(0.05, abs=1e-4)
    assert difference_p(b, a) == difference_p(a, b)


def test_the_half_of_an_interval_that_faces_the_other_value_counts():
    skewed = Row(0.0, -100.0, 1.959964, 1, math.nan)
    assert difference_p(skewed, Row(2.0, 2.0, 2.0, 1, math.nan)) == pytest.approx(0.0455, abs=1e-4)
    assert difference_p(skewed, Row(-2.0, -2.0, -2.0, 1, math.nan)) > 0.9


def test_one_training_is_inside_the_range_of_several():
    """t of 4 degrees of freedom at 97.5 % is 2.776, and sqrt(1 + 1/5) widens it for the one that is new."""
    published = row(10.0, 0.1, trainings=5, spread=2.0)
    edge = 10 + 2.776445 * 2.0 * math.sqrt(1.2)
    assert difference_p(published, row(edge, 0.01)) == pytest.approx(0.05, abs=1e-4)
    assert difference_p(row(edge, 0.01), published) == pytest.approx(0.05, abs=1e-4)


def test_the_range_over_trainings_covers_one_that_is_left_out():
    """Means of 20 units that vary with their training: of 400 a new one lies outside of the range of 5 in one of 20."""
    draw = np.random.default_rng(0)
    outside = 0
    for _ in range(400):
        trainings = draw.normal(0, 1, (6, 1)) + draw.normal(0, 1, 20) + draw.normal(0, 0.3, (6, 20))
        five, one = (
            Row(i.value, i.low, i.high, i.trainings, i.spread)
            for i in map(mean_interval, (trainings[:5], trainings[5]))
        )
        outside += difference_p(five, one) < 0.05
    assert 0.02 < outside / 400 < 0.085


def trained(*lines):
    """Rows of a folder from each row's values by training."""
    out = []
    for number, values in enumerate(lines):
        about = {"model": f"m{number}", "metric": "hits", "unit": "%", "low": math.nan, "high": math.nan, "n": 9}
        out += [about | {"value": value, "training": str(seed)} for seed, value in enumerate(values)]
        out.append(about | {"value": float(np.mean(values)), "training": "all"})
    return pd.DataFrame(out)


def test_each_training_is_held_against_the_others(tmp_path):
    """Of 1, 2, 3 and 100 only the last lies outside of the others' range; two trainings and equal ones say nothing."""
    rows = trained([1.0, 2.0, 3.0, 100.0], [1.0, 50.0], [5.0, 5.0, 5.0])
    assert leave_one_out(result_folder(tmp_path / "a", rows)) == LeftOut(inside=3 + 3, tested=4 + 3)
    assert leave_one_out(result_folder(tmp_path / "b")) == LeftOut()
    seconds = result_folder(tmp_path / "c", rows.assign(unit="s"))
    assert leave_one_out(seconds) == LeftOut()
    shown = invoke("compare", tmp_path / "a", tmp_path / "a").output
    assert "each held against the others, 85.7% of 7 values are inside" in " ".join(shown.split())


def test_where_trainings_vary_by_chance_alone_the_range_keeps_its_promise(tmp_path):
    draws = np.random.default_rng(0).normal(50, 5, (200, 5))
    found = leave_one_out(result_folder(tmp_path / "a", trained(*draws.tolist())))
    assert found.tested == 1000 and 0.93 < found.inside / found.tested < 0.97


def test_equal_values_and_rounding_are_no_difference_and_a_number_without_interval_is_not_tested():
    exact = Row(3.0, math.nan, math.nan, 1, math.nan)
    assert difference_p(exact, Row(3.003, math.nan, math.nan, 1, math.nan)) == 1
    assert math.isnan(difference_p(exact, Row(3.1, math.nan, math.nan, 1, math.nan)))
    constant = Row(3.0, 3.0, 3.0, 1, math.nan)
    assert difference_p(constant, Row(3.1, 3.1, 3.1, 1, math.nan)) == 0
    missing = Row(math.nan, math.nan, math.nan, 1, math.nan)
    assert difference_p(missing, missing) == 1 and math.isnan(difference_p(missing, exact))


# --- folders ---


@pytest.mark.parametrize(("shift", "expected"), [(0.0, []), (0.1, []), (0.25, ["b 0.1 hits"]), (-0.25, ["b 0.1 hits"])])
def test_rows_are_paired_by_their_ids(tmp_path, shift, expected):
    reordered = shifted(shift).iloc[::-1]
    found = compare(result_folder(tmp_path / "a"), result_folder(tmp_path / "b", reordered))
    assert moved(found) == expected and len(found.rows) == 4 and found.only == []
    assert found.same is (expected == [])


def test_a_time_holds_for_one_machine_and_is_not_compared(tmp_path):
    rows = shifted(100.0, "d")
    found = compare(result_folder(tmp_path / "a"), result_folder(tmp_path / "b", rows))
    assert found.same and found.count("time") == 1
    speed = (claim(kind="speed on this machine", metric="hits"),)
    a, b = (result_folder(tmp_path / name, r, speed) for name, r in (("c", ROWS), ("d", shifted(1.0))))
    assert compare(a, b).count("time") == 4, "what a claim about speed is made of is a time too"


def test_every_column_of_an_interval_is_a_number_and_p_values_and_standard_errors_are_no_ids(tmp_path):
    assert {"value", "low", "high", "n", "trainings", "spread"} == set(NUMBERS) == set(vars(Interval(1, 0, 2, 3)))
    extra = ROWS.assign(sem=[0.1, 0.2, 0.3, 0.4], p_t=0.5, reported=1.0, reason=["", "x", "", ""])
    other = extra.assign(sem=0.9, p_t=0.1, reported=2.0, reason="")
    found = compare(result_folder(tmp_path / "a", extra), result_folder(tmp_path / "b", other))
    assert len(found.rows) == 4 and found.only == []


def test_one_in_twenty_rows_outside_of_their_range_is_chance(tmp_path):
    """1,000 rows whose differences are drawn from what their intervals say: about 50 are outside, and none has moved."""
    draw = np.random.default_rng(0)
    rows = pd.DataFrame({"model": np.arange(1000), "metric": "hits", "value": draw.normal(0, 1, 1000)})
    rows = rows.assign(low=rows["value"] - 1.96, high=rows["value"] + 1.96, n=50)
    again = rows.assign(value=draw.normal(0, 1, 1000))
    again = again.assign(low=again["value"] - 1.96, high=again["value"] + 1.96)
    found = compare(result_folder(tmp_path / "a", rows), result_folder(tmp_path / "b", again))
    assert 30 < found.count("outside") < 70 and found.count("moved") == 0 and found.same
    again.loc[7, ["value", "low", "high"]] += 12
    assert moved(compare(tmp_path / "a", result_folder(tmp_path / "b", again))) == ["7 hits"]


def test_rows_of_single_trainings_are_not_compared_and_repeated_ids_are_said(tmp_path):
    rows = pd.concat(
        [ROWS.assign(training="all"), shifted(5.0).assign(training="0"), shifted(-5.0).assign(training="1")]
    )
    found = compare(result_folder(tmp_path / "a"), result_folder(tmp_path / "b", rows))
    assert found.same and len(found.rows) == 4
    twice = pd.concat([ROWS, ROWS.iloc[:1]])
    found = compare(tmp_path / "a", result_folder(tmp_path / "c", twice))
    assert any("2 rows are not told apart by their ids" in line for line in found.only)


def test_claims_are_paired_by_id_and_only_a_contradiction_fails_the_check(tmp_path):
    a = result_folder(tmp_path / "a", claims=(claim(), claim(id="toy/other"), claim(id="toy/gone")))
    for outcome, contradicts in (("inconclusive", False), ("not reproduced", True), ("not run", False)):
        b = result_folder(
            tmp_path / outcome, claims=(claim(id="toy/other", outcome=outcome), claim(text="In other words"))
        )
        found = compare(a, b)
        assert found.claims[["claim", "before", "after"]].values.tolist() == [["toy/other", "reproduced", outcome]]
        assert found.same is not contradicts
    fast = result_folder(tmp_path / "fast", claims=(claim(kind="speed on this machine"),))
    slow = result_folder(tmp_path / "slow", claims=(claim(kind="speed on this machine", outcome="not reproduced"),))
    assert compare(fast, slow).same, "speed is the machine's"


def test_a_record_s_claims_have_what_a_claim_is_paired_by():
    assert {"id", "kind", "metric", "text"} <= set(Claim.__dataclass_fields__)


# --- the command ---


def test_the_command_prints_what_moved_and_check_exits_with_3(tmp_path):
    a = result_folder(tmp_path / "a")
    b = result_folder(tmp_path / "b", shifted(1.0), (claim(outcome="not reproduced"),))
    result = invoke("compare", a, b)
    assert result.exit_code == 0 and "1 moved by more than that" in result.output
    assert "claim toy/holds (empirical): reproduced, now not reproduced" in result.output
    assert invoke("compare", a, b, "--check").exit_code == 3
    assert invoke("compare", a, a, "--check").exit_code == 0
    result_folder(tmp_path / "b", study="new")
    assert f"new: only in {b}" in invoke("compare", a, b).output


def test_the_command_as_json_has_every_row_that_is_not_inside(tmp_path):
    a, b = result_folder(tmp_path / "a"), result_folder(tmp_path / "b", shifted(1.0))
    found = json.loads(invoke("compare", a, b, "--json").output)
    assert found["counts"] == {"rows": 4, "inside": 2, "moved": 1, "time": 1} and found["same"] is False
    (row,) = found["rows"]
    assert (row["study"], row["what"], row["before"]) == ("toy", "b 0.1 hits", "2 [1.9, 2.1]") and row["p"] < 1e-6


def test_without_folders_one_s_own_results_are_held_against_the_published(tmp_path, monkeypatch):
    monkeypatch.setattr("reproduce.cli.compare.PUBLISHED", tmp_path / "published")
    monkeypatch.setattr("reproduce.cli.compare.RESULTS", tmp_path)
    result_folder(tmp_path / "published" / "embedded")
    own = result_folder(tmp_path / "embedded", shifted(1.0))
    assert invoke("compare", "--check").exit_code == 3
    assert invoke("compare", own, "--check").exit_code == 3
    with pytest.raises(UserError, match=r"no results in .*/published/subset"):
        invoke("compare", "--scale", "subset")
    with pytest.raises(UserError, match="two folders can be compared, and 3 are named"):
        invoke("compare", own, own, own)


def test_a_file_that_is_broken_or_missing_ends_in_a_sentence(tmp_path):
    a, b = result_folder(tmp_path / "a"), result_folder(tmp_path / "b")
    (b / "toy.csv").write_text("model,metric,value\na,hits,1\n")
    with pytest.raises(UserError, match=r"toy.csv has no column high, low; make it again with `make toy`"):
        compare(a, b)
    (b / "toy.csv").unlink()
    with pytest.raises(UserError, match=r"toy.csv is missing; make it again with `make toy`"):
        compare(a, b)
    (b / "toy.json").write_text('{"study": "toy", "claims"')
    with pytest.raises(UserError, match=r"toy.json cannot be read .*; remove it and run the study again"):
        compare(a, b)
    (b / "toy.json").write_text("[1, 2]")
    with pytest.raises(UserError, match="toy.json is not the record of a study"):
        compare(a, b)
    with pytest.raises(UserError, match="no results in"):
        compare(a, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"claims": [7]}, "one of its claims has no id, study, text, kind, outcome; remove it"),
        ({"claims": [claim() | {"outcome": "x"}, {"id": "y"}]}, "one of its claims has no study, text, kind, outcome"),
        ({"order": "first"}, "its order is 'first', not a number"),
    ],
)
def test_a_record_that_is_none_is_named_by_every_command_that_reads_it(tmp_path, change, message):
    folder = result_folder(tmp_path / "a")
    broken = result_folder(tmp_path / "results" / "embedded")
    (broken / "toy.json").write_text(json.dumps(json.loads((broken / "toy.json").read_text()) | change))
    for words in (["compare", folder, broken], *([name, "--results", broken.parent] for name in ("claims", "report"))):
        with pytest.raises(UserError, match=f"toy.json is not the record of a study: {message}"):
            invoke(*words)


def test_json_of_any_depth_and_words_in_place_of_numbers_end_in_a_sentence(tmp_path):
    a, b = result_folder(tmp_path / "a"), result_folder(tmp_path / "b")
    (b / "toy.csv").write_text((b / "toy.csv").read_text().replace("1.0", "one"))
    with pytest.raises(UserError, match=r"toy.csv has no number where one should be .*'one'.*`make toy`"):
        compare(a, b)
    (b / "toy.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match=r"toy.json cannot be read \(maximum recursion depth"):
        compare(a, b)
