"""Documentation is tested: what it says of the settings and the tree is what there is."""

import re
from pathlib import Path

import pytest

from cloud.pki.settings import PkiSettings
from cloud.s3sink.settings import SinkSettings
from demo.program import ROOT
from edge.detector.settings import DetectorSettings
from edge.forwarder.settings import ForwarderSettings
from wire.process.settings import Settings

EDGE: tuple[type[Settings], ...] = (DetectorSettings, ForwarderSettings)
CLOUD: tuple[type[Settings], ...] = (SinkSettings, PkiSettings)


def variables(classes: tuple[type[Settings], ...]) -> set[str]:
    return {field.upper() for cls in classes for field in cls.model_fields}


def documented_settings() -> dict[str, str]:
    """Variable and default of each row of the tables in docs/settings.md."""
    text = (ROOT / "docs" / "settings.md").read_text()
    rows = re.findall(r"^\| (`[A-Z0-9_`, /]+`) \| ([^|]*) \|", text, flags=re.MULTILINE)
    return {
        name: default.strip()
        for names, default in rows
        for name in re.findall(r"[A-Z][A-Z0-9_]+", names)
        if not name.startswith("AWS_")
    }


def test_every_setting_is_documented_and_no_other():
    """Those of the processes and those of the compose files."""
    compose = set().union(*(of_compose_alone(f"docker-compose.{name}.yml") for name in ("edge", "cloud", "jetson")))
    assert set(documented_settings()) == variables(EDGE + CLOUD) | compose


@pytest.mark.parametrize("cls", EDGE + CLOUD)
def test_the_documented_defaults_are_true(cls: type[Settings]):
    """As one would write them into a file of settings."""
    documented = documented_settings()
    for field, info in cls.model_fields.items():
        text = documented[field.upper()]
        if info.is_required():
            assert "required" in text, field
        elif info.default_factory is not None or info.default is None:
            assert "`" not in text or field == "cloud_mqtt_port", field
        else:
            default = str(info.default).lower() if isinstance(info.default, bool) else str(info.default)
            assert f"`{default}`" in text or f"`{float(default):g}`" in text, f"{field}: {default}"


@pytest.mark.parametrize("cls", EDGE + CLOUD)
def test_every_setting_has_a_meaning_that_help_shows(cls: type[Settings]):
    """The docstring of its field: a sentence or more."""
    for variable, default, meaning in cls.describe():
        assert default, variable
        assert meaning.endswith("."), variable


def of_compose_alone(file: str) -> set[str]:
    """Variables that a compose file takes for itself, besides the settings that it hands on; and compose's own."""
    text = (ROOT / file).read_text()
    names = set(re.findall(r"\$\{([A-Z][A-Z0-9_]+)", text)) - variables(EDGE + CLOUD)
    own = {"COMPOSE_PROFILES"} if "profiles:" in text else set()
    return own | {name for name in names if not name.endswith("_FILE")}


@pytest.mark.parametrize(("file", "classes"), [(".env.edge.example", EDGE), (".env.cloud.example", CLOUD)])
def test_the_example_of_an_environment_is_complete_and_true(file: str, classes: tuple[type[Settings], ...]):
    """Every setting, no other; what is commented out shows the default; what is set is valid."""
    lines = re.findall(r"^(#?)([A-Z][A-Z0-9_]+)=(.*)$", (ROOT / file).read_text(), flags=re.MULTILINE)
    ours = [(mark, name, value) for mark, name, value in lines if not name.startswith("AWS_")]
    side = file.split(".")[2]
    assert {name for _, name, _ in ours} == variables(classes) | of_compose_alone(f"docker-compose.{side}.yml")
    for cls in classes:
        names = {field.upper(): field for field in cls.model_fields}
        set_values = {name: value for mark, name, value in ours if not mark and name in names}
        shown = {name: value for mark, name, value in ours if mark and name in names}
        assert cls.from_environment(set_values) == cls.from_environment(set_values | shown | {"CLOUD_MQTT_PORT": ""})


DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", *(f"docs/{path.name}" for path in ROOT.glob("docs/*.md")))


def test_commands_in_the_documentation_are_targets_of_the_makefile():
    """And every module that is run with ``python -m`` exists."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for document in DOCUMENTS:
        text = (ROOT / document).read_text()
        assert set(re.findall(r"(?:^|`)make ([a-z-]+)", text, flags=re.MULTILINE)) <= targets, document
        for module in re.findall(r"python -m ((?:wire|edge|cloud|demo|benchmarks|scripts)[a-z0-9_.]*)", text):
            path = ROOT / module.replace(".", "/")
            assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), f"{document}: {module}"


def test_files_named_in_the_documentation_are_there():
    """In links, their anchors too, and in backticks that look like a path of the tree."""
    for document in DOCUMENTS:
        text = (ROOT / document).read_text()
        for name, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text):
            target = (ROOT / document).parent / name if name else ROOT / document
            assert target.exists(), f"{document} names {name}"
            if anchor:
                headings = re.findall(r"^#+ (.*)$", target.read_text(), flags=re.MULTILINE)
                slugs = {re.sub(r"[^a-z0-9_ -]", "", heading.lower()).replace(" ", "-") for heading in headings}
                assert anchor in slugs, f"{document}: {name}#{anchor}"
        paths = re.findall(r"`((?:wire|edge|cloud|demo|benchmarks|tests|requirements)/[A-Za-z0-9_./-]*)`", text)
        for name in paths:
            assert (ROOT / name).exists(), f"{document} names {name}"


def test_the_readme_is_for_five_minutes():
    """What is longer belongs to docs/."""
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


def test_the_tree_in_the_architecture_has_every_module_and_no_other():
    """Each module of wire, edge and cloud in its place; ``__main__`` goes without saying."""
    block = (ROOT / "ARCHITECTURE.md").read_text().partition("## Files\n\n")[2].partition("\n\n")[0]
    folders: list[tuple[int, str]] = []
    told = set()
    for line in block.splitlines():
        indent = len(line) - len(line.lstrip())
        names = re.split(r"\s{2,}", line.strip())[0].split(", ")
        folders = [folder for folder in folders if folder[0] < indent]
        parent = "".join(name for _, name in folders)
        if names[0].endswith("/"):
            folders.append((indent, names[0]))
        elif parent.startswith(("wire/", "edge/", "cloud/")):
            told |= {f"{parent}{name}.py" for name in names}
    paths = {path for top in ("wire", "edge", "cloud") for path in (ROOT / top).rglob("*.py")}
    own = {str(path.relative_to(ROOT)) for path in paths if not path.name.startswith("__")}
    assert told == {path for path in own if not path.startswith("cloud/s3sink/admin/")}


def test_no_file_is_over_a_megabyte_and_none_names_an_index():
    """Whoever installs uses their own index."""
    index = re.compile(rb"index-url\s*[= ]\s*\S+://")
    for path in _tracked():
        assert path.stat().st_size < 1_000_000, path
        if path != Path(__file__) and path.suffix not in (".onnx", ".png"):
            assert not index.search(path.read_bytes()), path


def _tracked() -> list[Path]:
    import subprocess

    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False).stdout
    return [path for name in listing.decode().split("\0") if name and (path := ROOT / name).is_file()]
