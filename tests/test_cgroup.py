"""Limits of CPU time are found wherever a container, a service or an old kernel has them."""

import pytest

from optimize.cgroup import cpu_quota, throttled_s


def laid(root, files):
    for name, content in files.items():
        path = root / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


LIMITED = {
    "a container's own root": ("0::/", {"cpu.max": "150000 100000\n"}, 1.5),
    "no limit": ("0::/", {"cpu.max": "max 100000\n"}, None),
    "a group of its own": ("0::/a/b", {"a/b/cpu.max": "200000 100000", "a/cpu.max": "max 1"}, 2.0),
    "a service above it": ("0::/a/b", {"a/b/cpu.max": "max 1", "a/cpu.max": "50000 100000"}, 0.5),
    "the least of two": ("0::/a", {"cpu.max": "100 100", "a/cpu.max": "300 100"}, 1.0),
    "the first version": (
        "4:memory:/m\n3:cpu,cpuacct:/docker/x",
        {
            "cpu,cpuacct/docker/x/cpu.cfs_quota_us": "250000\n",
            "cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000\n",
            "memory/m/cpu.max": "1 1000",
        },
        2.5,
    ),
    "the first version within a container": (
        "3:cpu:/docker/x",
        {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "50000"},
        2.0,
    ),
    "the first version without a limit": (
        "3:cpu:/",
        {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
        None,
    ),
    "a group outside of what is seen": ("0::/../other", {"../other/cpu.max": "1 100"}, None),
    "nonsense": ("what is this", {"cpu.max": "much"}, None),
}


@pytest.mark.parametrize("where", LIMITED)
def test_the_least_limit_counts(tmp_path, where):
    own, files, cores = LIMITED[where]
    laid(tmp_path, files)
    (tmp_path / "own").write_text(own + "\n")
    assert cpu_quota(tmp_path / "cgroup", tmp_path / "own") == cores


def test_without_groups_there_is_no_limit(tmp_path):
    assert cpu_quota(tmp_path / "none", tmp_path / "own") is None
    assert throttled_s(tmp_path / "none", tmp_path / "own") == 0


@pytest.mark.parametrize(
    ("own", "files"),
    [
        ("0::/a", {"a/cpu.stat": "nr_throttled 2\nthrottled_usec 3000000\n",
                   "cpu.stat": "throttled_usec 500000\n"}),
        ("3:cpu,cpuacct:/", {"cpu,cpuacct/cpu.stat": "throttled_time 3500000000\n"}),
        ("0::/", {"cpu.stat": "usage_usec 1\nthrottled_usec 3500000\n"}),
    ],
)  # fmt: skip
def test_what_each_limit_took_is_added_up(tmp_path, own, files):
    laid(tmp_path, files)
    (tmp_path / "own").write_text(own + "\n")
    assert throttled_s(tmp_path / "cgroup", tmp_path / "own") == 3.5


def test_a_link_between_two_names_of_a_group_is_one_group(tmp_path):
    laid(tmp_path, {"cpu,cpuacct/cpu.stat": "throttled_time 3500000000\n"})
    (tmp_path / "cgroup" / "cpu").symlink_to("cpu,cpuacct")
    (tmp_path / "own").write_text("3:cpu,cpuacct:/\n")
    assert throttled_s(tmp_path / "cgroup", tmp_path / "own") == 3.5
