import io
import json
import subprocess
import tarfile
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from training_fakes import code

from mercury_model.training import archives, data, manifest
from mercury_model.training.manifest import Package


def wheel(path: Path, files: dict[str, str], licence: str = "MIT") -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("p-1.dist-info/METADATA", f"Name: p\nLicense-Expression: {licence}\n\n")
        for name, text in files.items():
            archive.writestr(name, text)


def packages(folder: Path) -> list[Package]:
    wheel(folder / "a.whl", {"a/one.py": code(1), "a/copy.py": code(1), "a/_vendor/x.py": code(9)})
    wheel(folder / "b.whl", {"b/two.py": code(2), "b/notes.txt": "no code", "b/new.py": code(3)})
    wheel(folder / "h.whl", {"h/held.py": code(3)})
    return [
        Package("pip", n, "1", f"{n}.whl", manifest.digest(folder / f"{n}.whl"), "MIT", split)
        for n, split in (("a", "train"), ("b", "train"), ("h", "held-out"))
    ]


def test_a_manifest_gives_the_same_corpus_each_time(tmp_path: Path) -> None:
    made = packages(tmp_path)
    one, other = tmp_path / "1.jsonl", tmp_path / "2.jsonl"
    for path, order in ((one, made), (other, made[::-1])):
        size = data.write(data.build(order, tmp_path, "train", Counter()), path)
        assert set(size) == {"python"}
    assert one.read_bytes() == other.read_bytes()


def test_nothing_that_is_held_out_is_trained_on_not_even_as_a_copy(tmp_path: Path) -> None:
    made = packages(tmp_path)
    dropped: Counter[str] = Counter()
    train = list(data.build(made, tmp_path, "train", dropped))
    held = list(data.build(made, tmp_path, "held-out", Counter()))
    assert sorted(s.package for s in train) == ["a", "b"]
    assert [s.path for s in held] == ["h/held.py"]
    assert dropped == {"duplicate": 2, "vendored": 1}


def test_every_source_says_where_it_is_from(tmp_path: Path) -> None:
    made = [replace(p, licence="BSD-3-Clause") for p in packages(tmp_path)]
    path = tmp_path / "corpus.jsonl"
    data.write(data.build(made, tmp_path, "train", Counter()), path)
    assert {s.licence for s in data.read(path)} == {"BSD-3-Clause"}


def test_fetching_asks_the_ecosystems_client_for_the_pinned_version(tmp_path: Path) -> None:
    asked = []
    wanted = [
        Package(client, "name", "1.2", f"{client}.file", "0" * 64, "MIT")
        for client in ("pip", "npm", "apt")
    ]
    missing = manifest.fetch(wanted, tmp_path, lambda command, **_: asked.append(command))
    assert missing == wanted
    assert [c[0] for c in asked] == ["pip", "npm", "apt-get"]
    assert [c[-1] for c in asked] == ["name==1.2", "name@1.2", "name=1.2"]


@pytest.mark.parametrize("client", ["pip", "npm", "apt"])
def test_archives_arrive_in_a_folder_whose_path_is_relative(
    client: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    archive = tmp_path / "archive"
    archive.write_bytes(b"bytes")
    wanted = Package(client, "name", "1.2", "name.file", manifest.digest(archive), "MIT")

    def download(command: list[str], cwd: Path, **_: object) -> None:
        into = Path(command[command.index("--dest") + 1]) if "--dest" in command else Path()
        (cwd / into / wanted.file).write_bytes(archive.read_bytes())

    assert manifest.fetch([wanted], Path("some/archives"), download) == []


def test_an_archive_with_another_hash_is_not_used(tmp_path: Path) -> None:
    made = packages(tmp_path)
    wheel(tmp_path / "a.whl", {"a/one.py": code(7)})
    assert manifest.fetch(made, tmp_path, subprocess.run) == made[:1]


@pytest.mark.parametrize(
    ("stated", "fine"),
    [
        ("MIT", True),
        ("BSD-3-Clause AND MIT", True),
        ("Apache Software License", True),
        ("Expat AND BSD-3-clause", True),
        ("MIT OR GPL-2.0", False),
        ("GNU Lesser General Public License v3 (LGPLv3)", False),
        ("MPL-2.0", False),
        ("", False),
        ("Proprietary", False),
    ],
)
def test_only_permissive_licences_are_taken(stated: str, fine: bool) -> None:
    assert archives.is_permissive(stated) == fine


def test_the_licence_is_read_from_the_packages_own_metadata(tmp_path: Path) -> None:
    wheel(tmp_path / "p.whl", {}, "BSD-2-Clause")
    assert archives.licence(tmp_path / "p.whl") == "BSD-2-Clause"
    body = json.dumps({"name": "p", "license": "ISC"}).encode()
    with tarfile.open(tmp_path / "p.tgz", "w:gz") as tar:
        entry = tarfile.TarInfo("package/package.json")
        entry.size = len(body)
        tar.addfile(entry, io.BytesIO(body))
    assert archives.licence(tmp_path / "p.tgz") == "ISC"


def test_the_committed_manifest_is_permissive_small_and_sorted(tmp_path: Path) -> None:
    committed = manifest.load()
    assert len(committed) <= 150
    assert all(archives.is_permissive(p.licence) for p in committed)
    assert {p.split for p in committed} == {"train", "held-out"}
    manifest.save(committed[::-1], tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == manifest.CORPUS.read_bytes()
