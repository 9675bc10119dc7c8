"""Which wheels a machine needs beside the packages that it has: the logic of make_wheelhouse.py, without network."""

import re
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from email.parser import HeaderParser
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

PYTHONS = ("3.10", "3.11", "3.12", "3.13")
OPENCV = "opencv-python-headless"  # stands for all distributions of the module cv2
_CV2 = ("opencv-python", OPENCV, "opencv-contrib-python", "opencv-contrib-python-headless")
# Other builds than the index's are what such a machine is set up with: they are never replaced.
KEPT = ("torch", "torchvision", "numpy", OPENCV)
_LEGACY_TAGS = {5: "manylinux1", 12: "manylinux2010", 17: "manylinux2014"}  # by the glibc 2.N of PEP 600

Have = dict[str, Version | None]  # by project_name
Fetch = Callable[[str, SpecifierSet], "Wheel"]


class WheelhouseError(Exception):
    """One sentence that says what is wrong and what to do."""


@dataclass(frozen=True)
class Target:
    """The machine that the wheels are for: CPython on Linux.

    Args:
        python: such as "3.12"; a third number is left out.
        platform: such as "manylinux2014_x86_64" or "manylinux_2_28_aarch64": the newest glibc that it offers.
        abi: None for that of the Python.

    Raises:
        WheelhouseError: another Python or platform.
    """

    python: str
    platform: str = "manylinux2014_x86_64"
    abi: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "python", ".".join(self.python.split(".")[:2]))
        if self.python not in PYTHONS:
            raise WheelhouseError(f"PY={self.python}: expected one of {', '.join(PYTHONS)}.")
        self._glibc_and_machine()

    def _glibc_and_machine(self) -> tuple[int, str]:
        match = re.fullmatch(r"(manylinux(?:1|2010|2014)|manylinux_2_(\d+))_(\w+)", self.platform)
        if match is None:
            raise WheelhouseError(
                f"PLATFORM={self.platform}: expected one such as manylinux2014_x86_64 or manylinux_2_28_x86_64; "
                "`ldd --version` on the target names its glibc, 2.28 there."
            )
        legacy = {name: glibc for glibc, name in _LEGACY_TAGS.items()}
        return int(match[2] or legacy[match[1]]), match[3]

    def pip_options(self) -> list[str]:
        """What tells `pip download` the target; with every older platform tag, which pip does not add by itself."""
        glibc, machine = self._glibc_and_machine()
        platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(glibc, 4, -1)]
        platforms += [f"{name}_{machine}" for minor, name in _LEGACY_TAGS.items() if minor <= glibc]
        options = ["--python-version", self.python, "--implementation", "cp"]
        for abi in (self.abi or f"cp{self.python.replace('.', '')}", "abi3", "none"):
            options += ["--abi", abi]
        return options + [word for platform in platforms for word in ("--platform", platform)]

    def environment(self) -> dict[str, str]:
        """The values of PEP 508's markers there."""
        return {
            **{key: str(value) for key, value in default_environment().items()},
            "python_version": self.python,
            "python_full_version": f"{self.python}.0",
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
            "os_name": "posix",
            "sys_platform": "linux",
            "platform_system": "Linux",
            "platform_machine": self._glibc_and_machine()[1],
        }


@dataclass(frozen=True)
class Wheel:
    """A wheel file, with what its metadata says."""

    path: Path
    name: str
    version: Version
    requires: Sequence[Requirement] = ()


@dataclass
class Needs:
    """What :func:`find_needs` found.

    Attributes:
        wheels: to be installed, by project.
        replaced: one sentence for each package that a wheel replaces, by project.
        unsuitable: one sentence for each package that stays although it does not fit, by project.
    """

    wheels: dict[str, Wheel] = field(default_factory=dict)
    replaced: dict[str, str] = field(default_factory=dict)
    unsuitable: dict[str, str] = field(default_factory=dict)


def project_name(name: str) -> str:
    """The name in the form of PEP 503; every distribution of OpenCV is one project here."""
    name = canonicalize_name(name)
    return OPENCV if name in _CV2 else name


def parse_have(text: str, where: str = "HAVE") -> Have:
    """Versions by project of `pip list --format=freeze` or `pip freeze`; None where a line gives no version.

    Raises:
        WheelhouseError: a line of another form.
    """
    have: Have = {}
    for number, line in enumerate(text.splitlines(), start=1):
        # pip freeze names an editable install in a comment above it.
        named = re.sub(r"^# Editable .*\((\S+==\S+)\)$", r"\1", line.strip())
        words = re.split(r"(?:^|\s)#", named)[0].strip()
        found = _project_and_version(words)
        if found:
            have.setdefault(project_name(found[0]), found[1])
        elif words and not words.startswith("-"):
            raise WheelhouseError(
                f"{where}, line {number}: found {line!r}, expected name==version; write the file with "
                "`python3 -m pip list --format=freeze`."
            )
    return have


def _project_and_version(line: str) -> tuple[str, Version | None] | None:
    if match := re.fullmatch(r"([\w.-]+)\s*={2,3}\s*([^\s;]+).*", line):
        return match[1], _version(match[2])
    if match := re.fullmatch(r"([\w.-]+)\s*@\s*(\S+).*", line):
        return match[1], _version_in_url(match[2])
    if match := re.search(r"#egg=([\w.-]+)", line):
        return match[1], None
    return None


def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None


def _version_in_url(url: str) -> Version | None:
    """The version in the file name of a wheel; None for a folder or a source archive."""
    match = re.search(r"/[\w.]+-([^-/]+)-[^/]+\.whl", url)
    return _version(match[1].replace("%2B", "+")) if match else None


def read_wheel(path: Path) -> Wheel:
    """The wheel with the requirements of its METADATA."""
    with zipfile.ZipFile(path) as archive:
        member = next(name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
        metadata = HeaderParser().parsestr(archive.read(member).decode())
    name, version, _, _ = parse_wheel_filename(path.name)
    return Wheel(path, name, version, [Requirement(line) for line in metadata.get_all("Requires-Dist", [])])


def is_pure(path: Path) -> bool:
    """Whether a wheel is for every machine (py3-none-any)."""
    return "py3-none-any" in map(str, parse_wheel_filename(path.name)[3])


def requirements_of(wheel: Wheel, extras: Iterable[str], environment: dict[str, str]) -> list[Requirement]:
    """The wheel's requirements whose markers hold in ``environment``, those of ``extras`` among them."""
    contexts = [{**environment, "extra": extra} for extra in ("", *extras)]
    return [r for r in wheel.requires if r.marker is None or any(r.marker.evaluate(c) for c in contexts)]


def fits(have: Have, requirement: Requirement) -> bool:
    """Whether the requirement is met; a package without a known version is taken to be new enough."""
    name = project_name(requirement.name)
    version = have.get(name)
    return name in have and (version is None or requirement.specifier.contains(version, prereleases=True))


def find_needs(
    roots: Iterable[tuple[Requirement, str]], have: Have, environment: dict[str, str], fetch: Fetch
) -> Needs:
    """Follow requirements, breadth first, through everything that ``have`` does not satisfy.

    Of a project the newest release is taken that meets all requirements on it so far; one that contradicts a
    package of ``KEPT`` gives way to an older release. What ``have`` satisfies is taken to have its own needs met.

    Args:
        roots: requirements whose markers hold, each with the name of the project that asks for it.
        have: what is installed there.
        environment: marker values there.
        fetch: gives the newest wheel of a project that a specifier allows.
    """
    needs = Needs()
    wheels = needs.wheels
    allowed: dict[str, SpecifierSet] = {}
    followed = set()
    queue = deque(roots)
    while queue:
        requirement, asker = queue.popleft()
        name = project_name(requirement.name)
        allowed[name] = allowed.get(name, SpecifierSet()) & requirement.specifier
        if name not in wheels and fits(have, requirement):
            continue
        clash = f"{name} {have.get(name)} is on the target, but {asker} needs {requirement.specifier}:"
        if name in have and name in KEPT:
            remedy = f"it is left as it is; install a {name} that fits there, from where the present one came."
            needs.unsuitable.setdefault(name, f"{clash} {remedy}")
            continue
        if name not in wheels or not allowed[name].contains(wheels[name].version, prereleases=True):
            if name in have:
                needs.replaced.setdefault(name, f"{clash} the wheelhouse replaces it.")
            wheels[name] = _fetch_beside(have, name, allowed[name], environment, fetch)
        step = (name, wheels[name].version, frozenset(requirement.extras))
        if step not in followed:
            followed.add(step)
            found = requirements_of(wheels[name], requirement.extras, environment)
            queue.extend((child, f"{name} {wheels[name].version}") for child in found)
    return needs


def _fetch_beside(have: Have, name: str, specifier: SpecifierSet, environment: dict[str, str], fetch: Fetch) -> Wheel:
    """The newest wheel that leaves the packages of ``KEPT`` as they are."""
    clash = ""
    while True:
        try:
            wheel = fetch(name, specifier)
        except WheelhouseError as error:
            raise WheelhouseError(f"{error} {clash}".strip()) from error
        clashing = [
            r
            for r in requirements_of(wheel, (), environment)
            if project_name(r.name) in KEPT and project_name(r.name) in have and not fits(have, r)
        ]
        if not clashing:
            return wheel
        other = project_name(clashing[0].name)
        clash = f"(Newer releases of {name} do not fit the target's {other} {have[other]}.)"
        specifier &= SpecifierSet(f"<{wheel.version.public}")
