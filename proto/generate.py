"""Makes proto/gen from proto/dripstone/v1 with the pinned protoc, and checks the contract offline.

    python proto/generate.py                 write the generated code
    python proto/generate.py --check         exit 1 when the committed code is not what the contract gives
    python proto/generate.py --lint          exit 1 when buf finds fault with the contract
    python proto/generate.py --breaking REF  exit 1 when the contract breaks clients of the git revision REF

Files that are written by hand (`__init__.py`, `client.py`, `errors.py`, `py.typed`) are left alone.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
GENERATED = HERE / "gen"
_TOOLS = Path(sys.executable).parent
_REMEDY = "Run `python proto/generate.py` and commit the result."


class Refused(Exception):
    """A tool refused the contract; the text is what it said."""


def package_dir(name: str) -> Path:
    """Return the folder of an installed package. Raises Refused when it is not installed."""
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise Refused(f"{name} is not installed; install the `dev` group of pyproject.toml first")
    return Path(next(iter(spec.submodule_search_locations)))


def sources(root: Path) -> list[str]:
    """Return the contract's files, relative to `root`."""
    return sorted(str(path.relative_to(root)) for path in root.glob("dripstone/v1/*.proto"))


def protoc(root: Path, *arguments: str) -> None:
    """Run protoc over the contract in `root`. Raises Refused with its text."""
    # google/protobuf comes with the compiler, google/api with googleapis-common-protos, which ships its .proto files.
    includes = [root, package_dir("grpc_tools") / "_proto", package_dir("google.api").parents[1]]
    _run(
        sys.executable, "-m", "grpc_tools.protoc", *(f"-I{include}" for include in includes), *arguments, *sources(root)
    )


def generate(into: Path) -> None:
    """Write the generated code of the contract into a folder."""
    protoc(
        HERE,
        f"--plugin=protoc-gen-mypy={_TOOLS / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={_TOOLS / 'protoc-gen-mypy_grpc'}",
        *(f"--{kind}_out={into}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")),
    )
    for source in sources(HERE):
        if "\nservice " not in (HERE / source).read_text():
            stem = into / source.removesuffix(".proto")
            for suffix in ("_pb2_grpc.py", "_pb2_grpc.pyi"):
                stem.with_name(stem.name + suffix).unlink(missing_ok=True)


def generated_files(root: Path) -> dict[str, bytes]:
    """Return the generated files under a folder by their relative path."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*_pb2*.py*") if path.is_file()}


def stale_files() -> list[str]:
    """Return what is wrong with the committed code, one sentence a file; nothing when it is fresh."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh, committed = generated_files(Path(folder)), generated_files(GENERATED)
    committed = {path: content for path, content in committed.items() if "__pycache__" not in path}
    missing = [f"{path} is missing" for path in fresh.keys() - committed.keys()]
    left_over = [f"{path} has no source any more" for path in committed.keys() - fresh.keys()]
    differing = [f"{path} differs" for path in fresh.keys() & committed.keys() if fresh[path] != committed[path]]
    return sorted(missing + left_over + differing)


def write() -> int:
    """Bring proto/gen up to date, touching only files that change, and return how many did."""
    changed = 0
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh, committed = generated_files(Path(folder)), generated_files(GENERATED)
    for path in committed.keys() - fresh.keys():
        if "__pycache__" not in path:
            (GENERATED / path).unlink()
            changed += 1
    for path, content in fresh.items():
        if committed.get(path) != content:
            (GENERATED / path).parent.mkdir(parents=True, exist_ok=True)
            (GENERATED / path).write_bytes(content)
            changed += 1
    return changed


def build_image(root: Path, image: Path) -> None:
    """Write a descriptor set with comments: buf reads it, and needs neither network nor google/api's sources."""
    protoc(root, "--include_imports", "--include_source_info", f"--descriptor_set_out={image}")


def lint() -> None:
    """Check the contract against buf.yaml. Raises Refused with the findings."""
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "contract.binpb"
        build_image(HERE, image)
        _buf("lint", str(image))


def breaking(revision: str) -> str:
    """Compare the contract with a git revision's and return what was done. Raises Refused with the findings."""
    commit = _call("git", "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if commit.returncode:
        raise Refused(f"git knows no revision {revision}")
    archive = _call("git", "archive", commit.stdout.decode().strip(), "proto/dripstone")
    if archive.returncode:
        return f"{revision} has no contract: nothing to compare with"
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
            tar.extractall(folder, filter="data")
        now, then = Path(folder) / "now.binpb", Path(folder) / "then.binpb"
        build_image(HERE, now)
        build_image(Path(folder) / "proto", then)
        _buf("breaking", str(now), "--against", str(then))
    return f"the contract breaks no client of {revision}"


def _buf(*arguments: str) -> None:
    _run(str(_TOOLS / "buf"), *arguments, "--config", str(HERE / "buf.yaml"))


def _run(*command: str) -> None:
    done = _call(*command)
    if done.returncode:
        raise Refused((done.stdout + done.stderr).decode(errors="replace").strip())


def _call(*command: str) -> subprocess.CompletedProcess[bytes]:
    # Every command is spelled out above; the one outside word, a revision, stands behind --end-of-options.
    return subprocess.run(command, cwd=HERE.parent, capture_output=True, check=False)  # noqa: S603


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says and return the exit code."""
    parser = argparse.ArgumentParser(description="Generate and check the code of the contract.")
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 when proto/gen is stale")
    parser.add_argument("--lint", action="store_true", help="lint the contract with buf")
    parser.add_argument("--breaking", metavar="REF", help="compare the contract with a git revision's")
    asked = parser.parse_args(arguments)
    try:
        if asked.lint:
            lint()
            print("the contract is clean")
        if asked.breaking:
            print(breaking(asked.breaking))
        if asked.check and (stale := stale_files()):
            raise Refused("\n".join(["proto/gen is stale:", *(f"  {line}" for line in stale), _REMEDY]))
        if asked.check:
            print("proto/gen is fresh")
        if not (asked.check or asked.lint or asked.breaking):
            print(f"{write()} files of proto/gen written")
    except Refused as refused:
        print(refused, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
