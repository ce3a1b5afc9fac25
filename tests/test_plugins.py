"""A user's own file: what it may add, what is refused, and that a study runs with it."""

import pytest
from command_line import ROOT, invoke

from reproduce import plugins
from reproduce.errors import UserError
from reproduce.plugins import Registry

MY_METHOD = ROOT / "examples" / "my_method.py"


@pytest.fixture
def clean_plugins():
    """Registries as they were, after the test."""
    from reproduce.registries import REGISTRIES

    def copied(entries):
        return {name: copied(value) if isinstance(value, dict) else value for name, value in entries.items()}

    before = {kind: copied(registry.entries) for kind, registry in REGISTRIES.items()}
    yield REGISTRIES
    for kind, registry in REGISTRIES.items():
        _restore(registry.entries, before[kind])
    plugins.LOADED.clear()
    plugins._ADDED.clear()


def _restore(entries, before):
    for name in entries.keys() - before.keys():
        del entries[name]
    for name, value in before.items():
        if isinstance(value, dict):
            _restore(entries[name], value)


@pytest.fixture
def registries():
    """Two made-up registries: numbers by name, and words by study and scale."""
    yield {"NUMBERS": Registry({"one": 1}, int), "PROTOCOLS": Registry({"toy": {"small": {"a": "word"}}}, nested=True)}
    plugins.LOADED.clear()
    plugins._ADDED.clear()


def test_a_plugin_adds_to_every_registry_it_has_entries_for_once(registries, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("NUMBERS = {'two': 2}\nPROTOCOLS = {'toy': {'small': {'b': 'x'}, 'large': {'a': 'y'}}}")
    assert plugins.load(path, registries) == {"NUMBERS": ["two"], "PROTOCOLS": ["toy"]}
    assert registries["NUMBERS"].entries == {"one": 1, "two": 2}
    assert registries["PROTOCOLS"].entries == {"toy": {"small": {"a": "word", "b": "x"}, "large": {"a": "y"}}}
    assert plugins.load(path, registries) == {} and plugins.added("NUMBERS") == ["two"]
    assert len(plugins.key()["plugins"][0]) == 64


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("NUMBERS = {'one': 2}", "NUMBERS already has 'one'; choose another name"),
        ("NUMBERS = 7", "NUMBERS is of type int, not a dict of names"),
        ("NUMBERS = {2: 2}", "NUMBERS has the name 2, which is of type int, not a word"),
        ("NUMBERS = {'two': 'zwei'}", r"NUMBERS\['two'\] is of type str, not int"),
        ("PROTOCOLS = {'toy': {'small': {'a': 'x'}}}", r"PROTOCOLS\['toy'\] already has 'a'; choose another name"),
        ("PROTOCOLS = {'toy': {'large': {'a': 1}}}", r"PROTOCOLS\['toy'\] is of type int, not str"),
        ("PROTOCOLS = {'tyo': {}}", "PROTOCOLS knows no 'tyo'; there are: toy"),
        ("x = 1", "adds nothing: it has none of NUMBERS, PROTOCOLS"),
        ("NUMBERS = {}", "adds nothing"),
        ("1 / 0", "cannot be run: ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", "cannot be run: SystemExit: 3"),
        ("def (", "cannot be run: SyntaxError"),
    ],
)
def test_what_does_not_fit_is_refused_and_adds_nothing(registries, tmp_path, text, message):
    (tmp_path / "bad.py").write_text(text)
    with pytest.raises(UserError, match=f"plugin {tmp_path}/bad.py.*{message}"):
        plugins.load(tmp_path / "bad.py", registries)
    assert registries["NUMBERS"].entries == {"one": 1} and plugins.key() == {}
    with pytest.raises(UserError, match=r"none.py is not a Python file"):
        plugins.load(tmp_path / "none.py", registries)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("METHODS = {'mine': 7}", r"METHODS\['mine'\] is of type int, not Method"),
        ("METHODS = {'gradient': 1}", "METHODS already has 'gradient'"),
        ("MODELS = {'mine': None}", r"MODELS\['mine'\] is of type NoneType, not Callable"),
        ("SCALES = {'mine': 'small'}", r"SCALES\['mine'\] is of type str, not Scale"),
        ("STUDIES = {'mine': object()}", r"STUDIES\['mine'\] is of type object, not Study"),
        (
            "PROTOCOLS = {'table1': {'embedded': {'my-net': 100}}}",
            r"PROTOCOLS\['table1'\] is of type int, not Protocol",
        ),
    ],
)
def test_the_suite_s_registries_hold_values_of_their_type(clean_plugins, tmp_path, text, message):
    (tmp_path / "bad.py").write_text(text)
    with pytest.raises(UserError, match=message):
        invoke("list", "--plugin", tmp_path / "bad.py", "--cache", tmp_path / "cache")


def test_every_entry_of_the_suite_s_registries_has_the_type_that_a_plugin_s_must_have(clean_plugins):
    for kind, registry in clean_plugins.items():
        assert registry.entries
        if not registry.nested:
            assert all(isinstance(value, registry.type) for value in registry.entries.values()), kind


def test_a_number_in_place_of_a_method_is_refused(clean_plugins, tmp_path):
    (tmp_path / "number.py").write_text("METHODS = {'mine': 7}")
    with pytest.raises(UserError, match=r"number.py: METHODS\['mine'\] is of type int, not Method"):
        invoke("list", "--plugin", tmp_path / "number.py", "--cache", tmp_path)
