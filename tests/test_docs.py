"""The documentation matches the settings, the commands and the source tree."""

import re
from pathlib import Path

import pytest

from cloud.gallery.settings import GallerySettings
from cloud.pki.enrolment.settings import EnrolmentSettings
from cloud.pki.settings import PkiSettings
from cloud.s3sink.settings import SinkSettings
from demo.program import ROOT
from edge.detector.settings import DetectorSettings
from edge.forwarder.settings import ForwarderSettings
from wire.process.settings import Settings

EDGE: tuple[type[Settings], ...] = (DetectorSettings, ForwarderSettings)
CLOUD: tuple[type[Settings], ...] = (SinkSettings, GallerySettings, PkiSettings, EnrolmentSettings)


def variables(classes: tuple[type[Settings], ...]) -> set[str]:
    return {field.upper() for cls in classes for field in cls.model_fields}


def documented_settings() -> dict[str, str]:
    """Variables and defaults in the tables of docs/settings.md."""
    text = (ROOT / "docs" / "settings.md").read_text()
    rows = re.findall(r"^\| (`[A-Z0-9_`, /]+`) \| ([^|]*) \|", text, flags=re.MULTILINE)
    return {
        name: default.strip()
        for names, default in rows
        for name in re.findall(r"[A-Z][A-Z0-9_]+", names)
        if not name.startswith("AWS_")
    }


def test_documented_settings_match_existing_settings():
    """The settings of the processes and of the compose files."""
    compose = set().union(
        *(
            compose_only_variables(f"docker-compose.{name}.yml")
            for name in ("edge", "cloud", "jetson", "publishers", "monitoring")
        )
    )
    assert set(documented_settings()) == variables(EDGE + CLOUD) | compose


@pytest.mark.parametrize("cls", EDGE + CLOUD)
def test_documented_defaults_are_correct(cls: type[Settings]):
    """The documented default has the format of a value in an environment file."""
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
def test_every_setting_has_a_description(cls: type[Settings]):
    """The docstring of its field, which --help prints, consists of sentences."""
    for variable, default, meaning in cls.describe():
        assert default, variable
        assert meaning.endswith("."), variable


def compose_only_variables(file: str) -> set[str]:
    """Variables that only the compose file uses, and that it does not pass to a process as settings."""
    text = (ROOT / file).read_text()
    names = set(re.findall(r"\$\{([A-Z][A-Z0-9_]+)", text)) - variables(EDGE + CLOUD)
    names = {name for name in names if not name.startswith("AWS_")}
    own = {"COMPOSE_PROFILES"} if "profiles:" in text else set()
    return own | {name for name in names if not name.endswith("_FILE")}


@pytest.mark.parametrize(("file", "classes"), [(".env.edge.example", EDGE), (".env.cloud.example", CLOUD)])
def test_example_environment_file_is_complete_and_valid(file: str, classes: tuple[type[Settings], ...]):
    """It has every setting and no other. Commented lines show defaults, and other lines have valid values."""
    lines = re.findall(r"^(#?)([A-Z][A-Z0-9_]+)=(.*)$", (ROOT / file).read_text(), flags=re.MULTILINE)
    settings = [(prefix, name, value) for prefix, name, value in lines if not name.startswith("AWS_")]
    files = {"edge": ("edge", "publishers"), "cloud": ("cloud", "monitoring")}[file.split(".")[2]]
    compose = set().union(*(compose_only_variables(f"docker-compose.{name}.yml") for name in files))
    assert {name for _, name, _ in settings} == variables(classes) | compose
    for cls in classes:
        names = {field.upper(): field for field in cls.model_fields}
        set_values = {name: value for prefix, name, value in settings if not prefix and name in names}
        commented = {name: value for prefix, name, value in settings if prefix and name in names}
        assert cls.from_environment(set_values) == cls.from_environment(
            set_values | commented | {"CLOUD_MQTT_PORT": ""}
        )


DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", *(f"docs/{path.name}" for path in ROOT.glob("docs/*.md")))


def test_documented_commands_exist():
    """Every make target and every module that is run with ``python -m`` exists."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for document in DOCUMENTS:
        text = (ROOT / document).read_text()
        assert set(re.findall(r"(?:^|`)make ([a-z-]+)", text, flags=re.MULTILINE)) <= targets, document
        for module in re.findall(r"python -m ((?:wire|edge|cloud|demo|benchmarks|scripts)[a-z0-9_.]*)", text):
            path = ROOT / module.replace(".", "/")
            assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), f"{document}: {module}"


def test_documented_files_exist():
    """Files and anchors in links, and paths of the source tree in backticks."""
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


def test_readme_has_at_most_200_lines():
    """Longer texts belong in docs/."""
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


def test_file_list_in_architecture_matches_the_source_tree():
    """It has every module of wire, edge and cloud except ``__main__``, and no other."""
    block = (ROOT / "ARCHITECTURE.md").read_text().partition("## Files\n\n")[2].partition("\n\n")[0]
    folders: list[tuple[int, str]] = []
    documented = set()
    for line in block.splitlines():
        indent = len(line) - len(line.lstrip())
        names = re.split(r"\s{2,}", line.strip())[0].split(", ")
        folders = [folder for folder in folders if folder[0] < indent]
        parent = "".join(name for _, name in folders)
        if names[0].endswith("/"):
            folders.append((indent, names[0]))
        elif parent.startswith(("wire/", "edge/", "cloud/")):
            documented |= {f"{parent}{name}.py" for name in names}
    paths = {path for top in ("wire", "edge", "cloud") for path in (ROOT / top).rglob("*.py")}
    own = {str(path.relative_to(ROOT)) for path in paths if not path.name.startswith("__")}
    assert documented == {path for path in own if "/admin/" not in path}


def test_no_file_exceeds_one_megabyte_or_names_a_package_index():
    """Anyone who installs the project uses their own package index."""
    index = re.compile(rb"index-url\s*[= ]\s*\S+://")
    for path in _tracked():
        assert path.stat().st_size < 1_000_000, path
        if path != Path(__file__) and path.suffix not in (".onnx", ".png"):
            assert not index.search(path.read_bytes()), path


def _tracked() -> list[Path]:
    import subprocess

    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False).stdout
    return [path for name in listing.decode().split("\0") if name and (path := ROOT / name).is_file()]
