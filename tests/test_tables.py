"""Tables keep numbers as numbers: what lines they have, what is refused, which entry is the best, and what is printed."""

import json
import math

import pandas as pd
import pytest

from reproduce.report import style, tables
from reproduce.report.tables import Column, Line, Number, Table, wide
from xdnn import METHODS

ROWS = pd.DataFrame(
    [
        {"dataset": "cifar10", "model": "alexnet", "variant": variant, "metric": metric, "better": better}
        | {"value": v, "low": v - 1, "high": v + 1, "n": 9}
        for variant, hits, gap in (("regular", 50.0, 80.0), ("x", 60.0, 2.0), ("wrapped", 51.0, 40.0))
        for metric, v, better in (("hits", hits, "higher"), ("gap", gap, "lower"))
    ]
)
INDEX = ["dataset", "model", "variant"]
HEADS = {"hits": "Hits (%)", "gap": "Gap (%)"}


def test_a_line_for_each_net_and_a_column_for_each_metric():
    table = wide(ROWS, INDEX, HEADS)
    assert table.ids == ("dataset", "model", "variant")
    assert table.columns == (Column("Hits (%)", "higher"), Column("Gap (%)", "lower"))
    assert table.lines[1] == Line(("cifar10", "alexnet", "x"), (Number(60, 59, 61, 9), Number(2, 1, 3, 9)))
    assert len(table) == 3 and len(Table((), ())) == 0


def test_an_entry_without_a_row_is_empty_and_rows_of_other_metrics_are_not_shown():
    table = wide(ROWS.drop(index=3), INDEX, {"gap": "Gap"})  # the gap of x is not there
    assert [line.ids[2] for line in table.lines] == ["regular", "wrapped"]
    both = wide(ROWS.drop(index=3), INDEX, HEADS)
    assert both.lines[1].entries == (Number(60, 59, 61, 9), None)


def test_two_rows_for_one_entry_are_refused_by_name():
    with pytest.raises(ValueError, match="two rows for one entry: dataset cifar10, model alexnet, metric hits"):
        wide(ROWS, ["dataset", "model"], HEADS)


def test_lines_whose_id_is_missing_are_told_apart_too():
    rows = ROWS.assign(strength=[0.5, 0.5, None, None, None, None])
    assert len(wide(rows, [*INDEX, "strength"], HEADS)) == 3
    with pytest.raises(ValueError, match="strength nan"):
        wide(rows.assign(variant="x"), [*INDEX, "strength"], HEADS)


def test_reported_values_stand_beside_ours_where_there_are_some():
    rows = ROWS.assign(reported=[79.2, None, None, None, None, None])
    table = wide(rows, INDEX, HEADS)
    assert [column.heading for column in table.columns] == ["Hits (%)", "Hits in the paper", "Gap (%)"]
    assert [line.entries[1] for line in table.lines] == [Number(79.2), None, None]


def test_a_row_without_a_value_prints_its_reason():
    rows = ROWS.assign(reason="")
    rows.loc[0, ["value", "low", "high", "reason"]] = [math.nan, math.nan, math.nan, "no weights"]
    rows.loc[2, ["value", "low", "high"]] = math.nan
    table = wide(rows, INDEX, HEADS)
    assert [line.entries[0] for line in table.lines] == ["not run: no weights", None, Number(51, 50, 52, 9)]


def test_tables_are_stacked_by_their_headings():
    first, second = wide(ROWS, INDEX, {"hits": "Hits"}), wide(ROWS, INDEX, HEADS | {"hits": "Hits"})
    both = tables.stack(first, second)
    assert [column.heading for column in both.columns] == ["Hits", "Gap (%)"] and len(both) == 6
    assert both.lines[0].entries == (Number(50, 49, 51, 9), None)
    with pytest.raises(ValueError, match="different ids"):
        tables.stack(first, wide(ROWS, ["variant"], HEADS))


def test_a_line_has_to_fit_its_table():
    with pytest.raises(ValueError, match="1 ids and 2 entries"):
        Table(("model",), (Column("a"), Column("b")), (Line(("alexnet",), (None,)),))


# --- the best ---


def test_a_best_value_is_marked_only_where_no_rival_s_interval_touches_it():
    assert tables.best(wide(ROWS, INDEX, HEADS)) == {(1, 0), (1, 1)}  # x by hits (higher) and by gap (lower)
    close = ROWS.assign(low=ROWS["value"] - 10, high=ROWS["value"] + 10)
    assert tables.best(wide(close, INDEX, HEADS)) == {
        (1, 1)
    }  # 60 +- 10 touches 51 +- 10; 2 +- 10 does not touch 40 +- 10
    assert tables.best(wide(ROWS.assign(better=""), INDEX, HEADS)) == set()


def test_the_best_is_found_from_numbers_however_they_are_printed():
    huge = ROWS.assign(value=ROWS["value"] * 1e-7, low=ROWS["low"] * 1e-7, high=ROWS["high"] * 1e-7)
    assert tables.best(wide(huge, INDEX, HEADS, intervals=False)) == {(1, 0), (1, 1)}
    nearly = ROWS.assign(value=ROWS["value"] / 1e6 + 100, low=ROWS["low"] / 1e6 + 100, high=ROWS["high"] / 1e6 + 100)
    assert tables.best(wide(nearly, INDEX, HEADS)) == {(1, 0), (1, 1)}  # all of them print 100.0 [100.0, 100.0]


def test_an_entry_without_an_interval_is_never_best_and_keeps_its_rivals_from_being_it():
    rows = ROWS.copy()
    rows.loc[0, ["low", "high"]] = math.nan  # hits of the regular net
    assert tables.best(wide(rows, INDEX, HEADS)) == {(1, 1)}
    rows.loc[0, ["low", "high"]] = rows.loc[0, "value"]
    assert tables.best(wide(rows, INDEX, HEADS)) == {(1, 1)}


def test_rivals_are_the_lines_that_differ_in_the_last_id_only():
    two = pd.concat(
        [ROWS, ROWS.assign(model="vgg16", value=ROWS["value"] + 30, low=ROWS["low"] + 30, high=ROWS["high"] + 30)]
    )
    assert tables.best(wide(two, INDEX, {"hits": "Hits"})) == {(1, 0), (4, 0)}


# --- text ---


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234.56, "1234.6"),
        (93.71, "93.7"),
        (9.876, "9.88"),
        (-4.2, "-4.2"),
        (0.00491, "0.00491"),
        (1.8e-5, "1.8e-05"),
        (0, "0"),
        (math.nan, ""),
        (math.inf, "inf"),
    ],
)
def test_a_number_for_people(value, text):
    assert tables.number(value) == text


def test_an_entry_in_words():
    assert tables.words(Number(93.71, 92.2, 95.1)) == "93.7 [92.2, 95.1]"
    assert tables.words(Number(93.71, 92.2, 95.1), intervals=False) == "93.7"
    assert tables.words(Number(0.3, note="said: holds")) == "0.3 (said: holds)"
    of_several = Number(93.71, 92.2, 95.1, 100, 5, spread=1.04)
    assert (
        tables.words(of_several) == "93.7 [92.2, 95.1] ± 1.04" and tables.words(of_several, intervals=False) == "93.7"
    )
    assert tables.words(Number(5, 5, 5)) == "5" and tables.words(None) == "" and tables.words("not run") == "not run"


def test_markdown_and_latex_have_labels_and_arrows():
    table = wide(ROWS, INDEX, {"hits": "Hits |.|", "gap": "Gap_1"})
    text = " ".join(tables.markdown(table).split())
    assert text.startswith("| dataset | model | variant | Hits \\|.\\| ↑ | Gap_1 ↓ |")
    assert "| CIFAR-10 | AlexNet | X-variant | 60.0 [59.0, 61.0] | 2 [1, 3] |" in text
    assert tables.markdown(Table((), ())) == ""
    source = tables.latex(table)
    assert (
        r"Gap\_1 $\downarrow$" in source
        and r"CIFAR-10 & AlexNet & X-variant & 60.0 [59.0, 61.0] & 2 [1, 3] \\" in source
    )
    assert "[" not in tables.markdown(wide(ROWS, INDEX, HEADS, intervals=False))


def test_the_spread_over_trainings_is_explained_below_the_table_and_kept_in_its_record():
    several = wide(ROWS.assign(trainings=5, spread=2.0), INDEX, HEADS)
    assert "60.0 [59.0, 61.0] ± 2" in tables.markdown(several)
    assert tables.legend(several).endswith("behind ± the standard deviation over 5 trainings.")
    assert tables.legend(wide(ROWS, INDEX, HEADS)) == ""
    record = json.loads(json.dumps(tables.record(several), allow_nan=False))
    assert tables.from_record(record).lines[1].entries[0] == several.lines[1].entries[0]


# --- files ---


def test_a_record_is_json_with_numbers_and_makes_the_same_table():
    table = tables.stack(
        wide(ROWS, INDEX, HEADS),
        Table(tuple(INDEX), (Column("Hits (%)"),), (Line(("d", "m", 8.0), (Number(math.inf, note="x"),)),)),
        Table(tuple(INDEX), (Column("Hits (%)"),), (Line(("d", "m", None), ("not run: why",)),)),
    )
    record = json.loads(json.dumps(tables.record(table), allow_nan=False))
    assert record["lines"][0]["entries"][0] == {"value": 50.0, "low": 49.0, "high": 51.0, "n": 9}
    assert str(tables.from_record(record)) == str(table)  # NaN is not equal to itself, its text is


def test_files_keep_four_significant_digits(tmp_path):
    tables.write_csv(
        pd.DataFrame({"model": ["alexnet"], "value": [93.7123456], "low": [1.23456e-9]}), tmp_path / "a.csv"
    )
    assert (tmp_path / "a.csv").read_text() == "model,value,low\nalexnet,93.71,1.235e-09\n"
    assert tables.plain(93.7123456) == 93.71 and tables.plain(math.nan) is None and tables.plain(True) is True
    assert tables.plain(pd.Series([12345678]).iloc[0]) == 12345678


# --- the registry of labels and colours ---


def test_every_method_has_a_label_and_a_look_of_its_own():
    looks = {name: style.method(name) for name in METHODS}
    assert all(look.label == METHODS[name].label for name, look in looks.items())
    assert all(look.color != style.GREY for look in looks.values()), "a method without a line in style.py"
    assert len({(look.color, look.line, look.marker) for look in looks.values()}) == len(looks)


def test_no_colour_is_shared_by_two_methods_that_are_not_of_one_family():
    main = ["gradient", "input_x_gradient", "x_gradient", "integrated_gradients_128", "expected_gradients_1", "random"]
    main += ["smoothgrad", "deeplift", "agi", "big", "mfaba_sharp", "mfaba_smooth", "rrr", "unregularised"]
    assert len({style.method(name).color for name in main}) == len(main)


def test_families_and_versions_follow_from_their_names():
    ig, few = style.method("integrated_gradients_128"), style.method("integrated_gradients_8")
    assert few.label == "IG (8)" and (few.color, few.marker) == (ig.color, ig.marker)
    assert style.method("integrated_gradients_128_bf16").label == "IG (128) in bf16"
    assert style.method("expected_gradients").label == "EG"
    assert style.method("agi_corrected").color == style.method("agi").color
    assert style.rule("midpoint").label == "midpoint" and style.rule("gradient") == style.method("gradient")


def test_an_unknown_name_is_printed_as_it_is_in_grey():
    for kind in (style.method, style.model, style.variant, style.dataset, style.rule):
        assert kind("my_new_one") == style.Style("my_new_one", style.GREY)
    assert style.text("seed", 3.0) == "3" and style.text("model", None) == "" and style.text("model", math.nan) == ""
    assert style.text("metric", "kpm") == "KPM" and style.text("metric", "my_metric") == "my metric"


def test_a_net_is_named_with_its_data_set_where_one_scale_has_it_on_two():
    from reproduce.datasets import NETS

    for scale in {scale for group in NETS.values() for scale in group.scales}:
        nets = {(model, group.dataset) for group in NETS.values() if scale in group.scales for model in group.widths}
        assert len({style.net(*net) for net in nets}) == len(nets), scale
    assert style.net("alexnet", "digits-on-photos") == "AlexNet" and style.net("alexnet", "mine") == "AlexNet, mine"
