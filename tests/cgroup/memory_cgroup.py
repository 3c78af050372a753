"""Memory cgroups (v1 or v2) that tests and benchmarks run programs in."""
import os
import pathlib


class Group:
    """A memory cgroup of this program's own, below the one this process is in."""

    def __init__(self, path, limit_name, version):
        self.path, self.limit_name, self.version = path, limit_name, version

    def enter(self):
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def kills(self):
        name = "memory.oom_control" if self.version == 1 else "memory.events"
        for line in (self.path / name).read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
        # Kernels before 4.13 do not count; a killed run still ends with SIGKILL.
        return 0

    def close(self):
        self.path.rmdir()


def parents():
    """(folder, version) of memory cgroups a child could be made in, nearest first."""
    mounts = [line.split() for line in pathlib.Path("/proc/mounts").read_text().splitlines()]
    lines = pathlib.Path("/proc/self/cgroup").read_text().splitlines()
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for mount in mounts:
            is_v1 = mount[2] == "cgroup" and "memory" in mount[3].split(",")
            is_v2 = mount[2] == "cgroup2"
            if (is_v1 and "memory" in controllers.split(",")) or (is_v2 and controllers == ""):
                version = 1 if is_v1 else 2
                # In a container the path is the host's and the mount is what there is.
                for folder in (mount[1] + path, mount[1]):
                    yield pathlib.Path(folder), version


def make_group(limit):
    """A group with the limit, or None and why not."""
    reasons = []
    for parent, version in parents():
        name = "memory.limit_in_bytes" if version == 1 else "memory.max"
        path = parent / f"doppler-{os.getpid()}"
        try:
            path.mkdir()
        except OSError as error:
            reasons.append(f"{path}: {error.strerror}")
            continue
        try:
            if not (path / name).exists():
                (parent / "cgroup.subtree_control").write_text("+memory")
            (path / name).write_text(str(limit))
            return Group(path, name, version), None
        except OSError as error:
            reasons.append(f"{error.filename}: {error.strerror}")
            path.rmdir()
    return None, "; ".join(reasons) or "no memory cgroup is mounted"
