"""serin topo: this machine and every fixture drawn, as JSON and as SVG; what is recorded is read again; bad fixtures are
named with line or field. Discovery below roots made here, from a whole server to what no kernel would show, and with a
stand-in for NVIDIA's library."""
import json
import os
import random
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import topo_oracle
from machine_root import END, Root, config_space, four_v100, module, slot, structure
from on_terminal import on_terminal

SERIN = os.environ["SERIN"]
TOOLS = Path(os.environ.get("SERIN_TOOLS", Path(SERIN).parent / "tests"))
TESTS = Path(__file__).parent.parent
MACHINES = TESTS / "data/machines"
FIXTURES = sorted(p.stem for p in MACHINES.glob("*.json"))


def topo(*args, code=0, **kw):
    p = subprocess.run([SERIN, "topo", *map(str, args)], capture_output=True, text=True, timeout=120, **kw)
    assert p.returncode == code, p.stderr + p.stdout
    return p


def fixture(name):
    return MACHINES / f"{name}.json"


def discover(root, nvml=None, **fake):
    args = [TOOLS / "discover_tool", root.path, *([TOOLS / "fake_nvml.so"] if nvml is not None else [])]
    if fake.pop("cuda", False):
        args.append(TOOLS / "fake_cuda.so")
    env = {**os.environ, "SERIN_FAKE_NVML": nvml or "", **{k: str(v) for k, v in fake.items()}}
    p = subprocess.run(list(map(str, args)), capture_output=True, text=True, timeout=60, env=env)
    assert p.returncode == 0, p.stderr
    return json.loads(p.stdout)


def pci(m, address):
    return next(d for d in m["pci"] if d["address"] == address)


def reasons(m):
    return {u["what"]: u["why"] for u in m["unknown"]}


# ---- fixtures ----

def test_the_fixtures_are_what_their_generator_makes():
    subprocess.run([sys.executable, TESTS / "hardware/make_fixtures.py", "--check"], check=True)
    assert FIXTURES == ["consumer-board", "eight-nvlink", "four-v100", "one-gpu", "two-on-one-root", "two-switches"]


@pytest.mark.parametrize("name", FIXTURES)
def test_a_fixture_is_drawn_in_characters(name):
    out = topo("--from", fixture(name)).stdout
    machine = json.loads(fixture(name).read_text())
    assert machine["cpu"]["name"] in out and "\x1b" not in out
    for i in range(len(machine["gpus"])):
        assert f"GPU {i}" in out
    assert ("no bottleneck was found" in out) == (name == "one-gpu")
    assert max(map(len, out.splitlines())) <= 100 or name == "eight-nvlink"
    ascii_only = topo("--from", fixture(name), "--ascii").stdout
    assert ascii_only.isascii() and len(ascii_only.splitlines()) == len(out.splitlines())


def test_a_link_says_what_it_is_and_what_it_could_be():
    out = topo("--from", fixture("two-on-one-root")).stdout
    line = next(li for li in out.splitlines() if "GPU 1 NVIDIA" in li)
    assert "gen4 x8, could be gen4 x16" in line and re.search(r"!\d", line)
    assert "14.2 root*" in out and "* copied by way of the host's memory" in out
    out = topo("--from", fixture("consumer-board")).stdout
    assert "gen4 x4 (the card: x16)" in out and "free, up to gen4 x8" in out


def test_all_shows_what_else_there_is(tmp_path):
    m = json.loads(fixture("one-gpu").read_text())
    m["pci"].append({"address": "0000:00:14.0", "parent": "0000:00", "kind": "device", "class": "0c0330", "name": "a USB controller"})
    (tmp_path / "m.json").write_text(json.dumps(m))
    assert "a USB controller" not in topo("--from", tmp_path / "m.json").stdout
    assert "a USB controller" in topo("--from", tmp_path / "m.json", "--all").stdout


def test_json_has_machine_paths_and_advice():
    o = json.loads(topo("--from", fixture("four-v100"), "--json").stdout)
    assert [a["problem"] for a in o["advice"]] == ["acs", "shared_uplink"]
    acs = o["advice"][0]
    assert acs["pci"] == "0000:03:00.0" and acs["then_bytes_per_s"] == pytest.approx(4 * acs["now_bytes_per_s"])
    assert len(o["paths"]) == 12
    p = o["paths"][0]
    assert (p["from"], p["to"], p["route"], p["meet"], p["acs"]) == (0, 1, "switch", "0000:03:00.0", "0000:04:00.0")
    assert p["through_cpu"] and p["bytes_per_s"] == pytest.approx(16 * 8e9 / 8 * 128 / 130 * 256 / 284, rel=1e-5)
    assert o["machine"]["gpus"][0]["name"] == "Tesla V100-PCIE-16GB"


@pytest.mark.parametrize("first", range(0, 120, 30))
def test_paths_of_random_machines_are_those_of_the_oracle(tmp_path, first):
    seen = set()
    for seed in range(first, first + 30):
        m = topo_oracle.make(seed)
        path = tmp_path / f"{seed}.json"
        path.write_text(json.dumps(m))
        o = json.loads(topo("--from", path, "--json").stdout)
        oracle = topo_oracle.Oracle(m)
        for p in o["paths"]:
            want = oracle.path(p["from"], p["to"])
            assert {k: p[k] for k in want if k != "bytes_per_s"} == {k: v for k, v in want.items() if k != "bytes_per_s"}, (seed, p)
            assert p["bytes_per_s"] == pytest.approx(want["bytes_per_s"], rel=1e-6), (seed, p)
            seen.add(p["route"])
        want = oracle.exchange()
        assert (o["exchange"] and o["exchange"]["bytes_per_s"]) == (want and pytest.approx(want, rel=1e-6)), seed
        worse = [a for a in o["advice"] if a["then_bytes_per_s"] and a["then_bytes_per_s"] < a["now_bytes_per_s"]]
        assert not worse, (seed, worse)
    assert len(seen) >= 5, seen


@pytest.mark.parametrize("name", FIXTURES)
def test_an_svg_is_whole_and_needs_nothing_else(name, tmp_path):
    path = tmp_path / "m.svg"
    assert str(path) in topo("--from", fixture(name), "--svg", path).stderr
    text = path.read_text()
    root = ET.fromstring(text)
    width, height = float(root.get("width")), float(root.get("height"))
    words = [t for t in root.iter("{http://www.w3.org/2000/svg}text")]
    assert all(0 <= float(t.get("x")) <= width and 0 <= float(t.get("y")) <= height for t in words)
    assert "href" not in text and "url(" not in text and "@import" not in text
    boxes = [r for r in root.iter("{http://www.w3.org/2000/svg}rect") if (r.get("class") or "").startswith("gpu")]
    machine = json.loads(fixture(name).read_text())
    assert len(boxes) == len(machine["gpus"])
    overlap = [(a, b) for a in boxes for b in boxes if a is not b and float(a.get("y")) == float(b.get("y"))
               and float(a.get("x")) <= float(b.get("x")) < float(a.get("x")) + float(a.get("width"))]
    assert not overlap
    assert ("badline" in text.split("</style>")[1]) == (name != "one-gpu")


def test_the_picture_in_the_docs_is_what_is_drawn():
    picture = TESTS.parent / "docs/pictures/topo-four-v100.svg"
    assert topo("--from", fixture("four-v100"), "--svg", "-").stdout == picture.read_text()


def test_what_hangs_on_a_host_without_a_link_is_drawn_below_it(tmp_path):
    (tmp_path / "m.json").write_text(json.dumps({"serin_machine": 1, "pci": [
        {"address": "0000:00", "kind": "host"}, {"address": "0000:00:03.0", "kind": "device", "parent": "0000:00", "class": "020000"}]}))
    svg = topo("--from", tmp_path / "m.json", "--svg", "-").stdout.split("</style>")[1]
    assert svg.count("<path") == 1 and "Advice" not in svg and "network" in svg


def test_texts_of_a_fixture_cannot_leave_their_place(tmp_path):
    m = json.loads(fixture("one-gpu").read_text())
    m["gpus"][0]["name"] = m["name"] = "</text><script>alert(1)</script>&\"\x1b[31m\n" + "w" * 300
    (tmp_path / "m.json").write_text(json.dumps(m))
    svg = topo("--from", tmp_path / "m.json", "--svg", "-").stdout
    assert "<script" not in svg and "\x1b" not in svg
    ET.fromstring(svg)
    assert "\x1b" not in topo("--from", tmp_path / "m.json").stdout


def test_colours_are_for_terminals_only():
    args = ["topo", "--from", fixture("four-v100")]
    assert "\x1b[31;1m" in on_terminal(*args) and "\x1b" not in on_terminal(*args, NO_COLOR="1")


@pytest.mark.parametrize("text, says", [
    ("", "line 1"),
    ('{"serin_machine": 1,\n "nodes": [,]}', "line 2"),
    ("{}", "'serin_machine' is missing"),
    ('{"serin_machine": 1, "gpu": []}', "gpu is no key"),
    ('{"serin_machine": 1, "gpus": [{"bytes": -5}]}', "gpus[0].bytes must be a whole number"),
    ('{"serin_machine": 1, "pci": [{"address": "0000:00", "kind": "hub"}]}', "pci[0].kind must be host, root_port"),
    ('{"serin_machine": 1, "serin_machine": 1}', "line 1"),
    ("<topology version=\"2.0\">\n<object", "line 2: the file ends within a tag"),
    ("<topology>", "line 1: this is no export of version 2"),
    ("<svg></svg>", "its first tag is not <topology>"),
    ("<topology version=\"2.0\">\n</object>", "line 2: a tag is closed that is not open"),
    ("<topology version=\"2.0\"><a><a>", "before its last tag is closed"),
    ("<topology version=\"2.0\">" + "<a>" * 200, "more than 128 tags"),
])
def test_a_bad_fixture_is_refused_with_its_place(tmp_path, text, says):
    path = tmp_path / "bad.json"
    path.write_text(text)
    err = topo("--from", path, code=2).stderr
    assert err.startswith(f"serin topo: {path}") and says in err


def test_a_missing_fixture_and_a_folder_that_is_none(tmp_path):
    assert "no.json" in topo("--from", tmp_path / "no.json", code=2).stderr
    assert "could not be written" in topo("--from", fixture("one-gpu"), "--svg", tmp_path / "no/x.svg", code=1).stderr
    assert "there is no option '--form'; did you mean '--from'?" in topo("--form", code=2).stderr
    assert "examples:" in topo("--help").stdout


# ---- this machine ----

def test_this_machine_is_found_and_recorded(tmp_path):
    path = tmp_path / "here.json"
    topo("--record", path)
    m = json.loads(path.read_text())
    assert m["cpu"]["threads"] == len(os.sched_getaffinity(0)) and m["cpu"]["cores"] >= 1 and m["cpu"]["isa"]
    assert m["nodes"] and m["nodes"][0]["bytes"] > 1 << 28 and len(m["id"]) == 32
    have = {p.name for p in Path("/sys/bus/pci/devices").iterdir()} if Path("/sys/bus/pci/devices").exists() else set()
    assert {d["address"] for d in m["pci"] if d["kind"] != "host"} == have
    again = tmp_path / "again.json"
    topo("--from", path, "--record", again)
    assert json.loads(again.read_text()) == m
    assert json.loads(topo("--json").stdout)["machine"]["id"] == m["id"]
    assert m["cpu"]["name"] in topo().stdout


def test_an_export_of_hwloc_is_read(tmp_path):
    path = tmp_path / "m.xml"
    path.write_text(HWLOC)
    o = json.loads(topo("--from", path, "--json").stdout)
    m = o["machine"]
    assert (m["cpu"]["name"], m["cpu"]["sockets"], m["cpu"]["cores"], m["cpu"]["threads"]) == ("Test CPU", 1, 2, 2)
    assert m["nodes"][0]["bytes"] == 68719476736 and m["cpu"]["l3_bytes"] == 33554432
    assert [(d["address"], d["kind"]) for d in m["pci"]] == [
        ("0000:00", "host"), ("0000:00:01.0", "root_port"), ("0000:01:00.0", "device")]
    assert m["gpus"][0]["name"] == "Tesla V100" and m["gpus"][0]["bytes"] == 16 << 30
    why = reasons(m)
    assert "product of lanes and rate" in why["pci/link"] and "iommu" in why and "pairs/p2p" in why
    assert not o["advice"] and m["name"] == "export" and m["nodes"][0]["cpus"] == "0-1"
    assert m["pci"][2]["node"] == 0 and (m["pci"][2]["vendor"], m["pci"][2]["class"]) == ("10de", "030200")
    topo("--from", path)


def test_a_broken_export_is_refused_or_read_and_does_no_harm(tmp_path):
    rng, path = random.Random(8), tmp_path / "m.xml"
    for _ in range(60):
        text = list(HWLOC)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(text))
            text[at:at + rng.choice([0, 1, 40])] = rng.choice(["<", "\"", "/>", "99999999999999999999", "-1", "<!--", "\0"])
        path.write_text("".join(text))
        p = subprocess.run([SERIN, "topo", "--from", path], capture_output=True, text=True, timeout=60)
        assert p.returncode in (0, 2) and (p.returncode == 0) == (p.stderr == ""), p.stderr


HWLOC = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE topology SYSTEM "hwloc2.dtd">
<topology version="2.0">
  <object type="Machine" os_index="0" cpuset="0x3" complete_cpuset="0x3" allowed_cpuset="0x3" nodeset="0x1"
   complete_nodeset="0x1" allowed_nodeset="0x1" gp_index="1">
    <info name="HostName" value="export"/>
    <object type="Package" os_index="0" cpuset="0x3" complete_cpuset="0x3" nodeset="0x1" complete_nodeset="0x1" gp_index="2">
      <info name="CPUModel" value="Test CPU"/>
      <object type="NUMANode" os_index="0" cpuset="0x3" complete_cpuset="0x3" nodeset="0x1" complete_nodeset="0x1" gp_index="3"
       local_memory="68719476736"><page_type size="4096" count="16777216"/></object>
      <object type="L3Cache" cpuset="0x3" complete_cpuset="0x3" nodeset="0x1" complete_nodeset="0x1" gp_index="4"
       cache_size="33554432" depth="3" cache_linesize="64" cache_associativity="16" cache_type="0">
        <object type="Core" os_index="0" cpuset="0x1" complete_cpuset="0x1" nodeset="0x1" complete_nodeset="0x1" gp_index="5">
          <object type="PU" os_index="0" cpuset="0x1" complete_cpuset="0x1" nodeset="0x1" complete_nodeset="0x1" gp_index="6"/>
        </object>
        <object type="Core" os_index="1" cpuset="0x2" complete_cpuset="0x2" nodeset="0x1" complete_nodeset="0x1" gp_index="7">
          <object type="PU" os_index="1" cpuset="0x2" complete_cpuset="0x2" nodeset="0x1" complete_nodeset="0x1" gp_index="8"/>
        </object>
      </object>
      <object type="Bridge" gp_index="9" bridge_type="0-1" depth="0" bridge_pci="0000:[00-01]">
        <object type="Bridge" gp_index="10" bridge_type="1-1" depth="1" bridge_pci="0000:[01-01]" pci_busid="0000:00:01.0"
         pci_type="0604 [8086:6f04] [0000:0000] 00" pci_link_speed="15.753846">
          <object type="PCIDev" gp_index="11" pci_busid="0000:01:00.0" pci_type="0302 [10de:1db4] [0000:0000] a1"
           pci_link_speed="15.753846">
            <object type="OSDev" gp_index="12" name="cuda0" osdev_type="5" subtype="CUDA">
              <info name="GPUModel" value="Tesla V100"/>
              <info name="CUDAGlobalMemorySize" value="16777216"/>
            </object>
          </object>
        </object>
      </object>
    </object>
  </object>
</topology>
"""


# ---- discovery below a root made here ----

def test_a_server_is_found_as_it_is(tmp_path):
    m = discover(four_v100(tmp_path), "", SERIN_FAKE_GPUS=4)
    kinds = {d["address"]: d["kind"] for d in m["pci"]}
    assert kinds["0000:00"] == "host" and kinds["0000:00:02.0"] == "root_port" and kinds["0000:03:00.0"] == "switch_up"
    assert kinds["0000:04:04.0"] == "switch_down" and kinds["0000:05:00.0"] == "device"
    assert pci(m, "0000:06:00.0")["parent"] == "0000:04:04.0"
    assert pci(m, "0000:05:00.0")["link"] == {"gen": 3, "width": 16, "max_gen": 3, "max_width": 16, "idle": False}
    assert pci(m, "0000:04:00.0")["acs_redirect"] is True and pci(m, "0000:00:02.0")["acs_redirect"] is False
    assert pci(m, "0000:00:1c.0")["chipset"] is True and pci(m, "0000:09:00.0")["chipset"] is True
    assert pci(m, "0000:05:00.0")["chipset"] is False
    assert pci(m, "0000:05:00.0")["bar_bytes"] == 16 << 30
    assert pci(m, "0000:04:08.0")["slot"] == "GPU3" and pci(m, "0000:00:03.0")["slot"] == "SLOT1"
    assert pci(m, "0000:00:03.0")["link"] == {"gen": 0, "width": 0, "max_gen": 3, "max_width": 16, "idle": False}
    assert m["iommu"] == "off" and not m["virtual"]
    assert [g["pci"] for g in m["gpus"]] == [f"0000:{b:02x}:00.0" for b in range(5, 9)]  # and not the board's own display
    g = m["gpus"][2]
    assert (g["name"], g["uuid"], g["driver"]) == ("Tesla V100-PCIE-16GB", "GPU-2", "550.54.14")
    assert (g["bytes"], g["bar1_bytes"], g["cc_major"], g["cc_minor"], g["sm"]) == (16 << 30, 256 << 20, 7, 0, 80)
    assert g["power_limit_w"] == 250
    assert all(p["read"] and p["write"] and not p["atomics"] and p["nvlinks"] == 0 for p in m["pairs"])


def test_what_was_found_gets_the_advice_of_its_kind(tmp_path):
    (tmp_path / "m.json").write_text(json.dumps(discover(four_v100(tmp_path / "r"), "", SERIN_FAKE_GPUS=4)))
    o = json.loads(topo("--from", tmp_path / "m.json", "--json").stdout)
    assert [a["problem"] for a in o["advice"]] == ["acs", "shared_uplink", "small_bar"]
    (tmp_path / "n.json").write_text(json.dumps(discover(four_v100(tmp_path / "s", acs=0x01), "", SERIN_FAKE_GPUS=4)))
    o = json.loads(topo("--from", tmp_path / "n.json", "--json").stdout)
    assert [a["problem"] for a in o["advice"]] == ["shared_uplink", "small_bar"]


def test_an_ordinary_user_sees_the_tree_and_is_told_what_needs_root(tmp_path):
    m = discover(four_v100(tmp_path, as_root=False), "", SERIN_FAKE_GPUS=4)
    kinds = {d["address"]: d["kind"] for d in m["pci"]}
    assert kinds["0000:03:00.0"] == "switch_up" and kinds["0000:04:00.0"] == "switch_down" and kinds["0000:00:02.0"] == "root_port"
    assert pci(m, "0000:04:00.0")["acs_redirect"] is None and pci(m, "0000:04:00.0")["slot"] == "GPU1"
    assert reasons(m)["pci/0000:04:00.0/acs_redirect"] == "needs root"


@pytest.mark.parametrize("fake, links, version, granted", [
    ("pairs", {(0, 1): 2, (2, 3): 2}, 2, True),
    ("switch", {(a, b): 6 for a in range(4) for b in range(a + 1, 4)}, 3, True),
    ("denied", {}, 0, False),
])
def test_nvlink_and_p2p_are_what_the_driver_says(tmp_path, fake, links, version, granted):
    m = discover(four_v100(tmp_path), fake, SERIN_FAKE_GPUS=4)
    assert {(p["a"], p["b"]): p["nvlinks"] for p in m["pairs"] if p["nvlinks"]} == links
    assert all(p["read"] is granted and p["why_not"] == ("" if granted else "not supported by the GPU") for p in m["pairs"])
    assert {g["nvlink_version"] for g in m["gpus"]} == {version}


def test_a_link_at_rest_is_marked_and_no_fault(tmp_path):
    m = discover(four_v100(tmp_path / "r"), "idle", SERIN_FAKE_GPUS=4)
    assert pci(m, "0000:05:00.0")["link"]["idle"] and pci(m, "0000:05:00.0")["link"]["gen"] == 1
    assert "at rest" in reasons(m)["pci/0000:05:00.0/link/gen"]
    (tmp_path / "m.json").write_text(json.dumps(m))
    out = topo("--from", tmp_path / "m.json").stdout
    assert "gen1 x16 at rest, could be gen3 x16" in out
    o = json.loads(topo("--from", tmp_path / "m.json", "--json").stdout)
    assert "down_trained" not in [a["problem"] for a in o["advice"]]


def test_a_link_is_read_under_load_where_a_load_can_be_put_on_it(tmp_path):
    root = four_v100(tmp_path)
    m = discover(root, "idle", cuda=True, SERIN_FAKE_GPUS=4)
    assert all(pci(m, g["pci"])["link"]["gen"] == 3 and not pci(m, g["pci"])["link"]["idle"] for g in m["gpus"])
    assert not [w for w in reasons(m) if w.endswith("link/gen")]
    m = discover(root, "idle tired", cuda=True, SERIN_FAKE_GPUS=1)  # one that a load does not wake is a fault
    assert pci(m, "0000:05:00.0")["link"]["gen"] == 2 and not pci(m, "0000:05:00.0")["link"]["idle"]
    (tmp_path / "m.json").write_text(json.dumps(m))
    assert "down_trained" in [a["problem"] for a in json.loads(topo("--from", tmp_path / "m.json", "--json").stdout)["advice"]]
    m = discover(root, "idle", cuda=True, SERIN_FAKE_GPUS=4, SERIN_FAKE_CUDA="refuses")
    assert pci(m, "0000:05:00.0")["link"]["idle"] and "gives no access" in reasons(m)["pci/0000:05:00.0/link/gen"]


def test_ports_of_a_virtual_machine_get_no_advice(tmp_path):
    r = four_v100(tmp_path)
    r.write("sys/devices/pci0000:00/0000:00:02.0/0000:03:00.0/0000:04:00.0/max_link_width", "1\n")
    r.write("proc/cpuinfo", "flags : fpu hypervisor\n")
    (tmp_path / "m.json").write_text(json.dumps(discover(r, "", SERIN_FAKE_GPUS=4)))
    o = json.loads(topo("--from", tmp_path / "m.json", "--json").stdout)
    assert [a["problem"] for a in o["advice"]] == ["small_bar"] and {p["route"] for p in o["paths"]} == {"unknown"}


def test_without_the_library_the_reason_is_said(tmp_path):
    m = discover(four_v100(tmp_path), "failing", SERIN_FAKE_GPUS=4)
    assert reasons(m)["gpus/nvml"] == "NVIDIA's driver does not answer its library"
    assert m["gpus"][0]["name"] == "NVIDIA GPU 1db4" and m["gpus"][0]["bytes"] is None
    assert m["pairs"][0]["read"] is None


def test_a_library_that_answers_nonsense_does_no_harm(tmp_path):
    m = discover(four_v100(tmp_path), "broken", SERIN_FAKE_GPUS=4)
    assert all(g["cc_major"] == 0 and g["nvlink_version"] == 0 and g["bytes"] is None for g in m["gpus"])
    assert all(len(g["name"]) <= 256 and "\x1b" not in g["name"] for g in m["gpus"])
    assert all(p["read"] is None for p in m["pairs"])
    m = discover(four_v100(tmp_path / "more"), "elsewhere", SERIN_FAKE_GPUS=2)
    assert [g["pci"] for g in m["gpus"][4:]] == [None, None]


def test_gpus_of_other_makers_and_those_that_are_none(tmp_path):
    r = Root(tmp_path)
    port = "pci0000:00/0000:00:01.0"
    r.device(port, 0x1022, 0x1483, 0x060400, (4, 16), (4, 16), config_space(4, True, 1, 4, 16))
    r.device(f"{port}/0000:01:00.0", 0x1002, 0x1478, 0x060400, (4, 16), (4, 16), config_space(5, True, 2, 4, 16))
    r.device(f"{port}/0000:01:00.0/0000:02:00.0", 0x1002, 0x1479, 0x060400, (4, 16), (4, 16), config_space(6, True, 3, 4, 16))
    r.device(f"{port}/0000:01:00.0/0000:02:00.0/0000:03:00.0", 0x1002, 0x744c, 0x030000, (4, 16), (4, 16), config_space(0),
             mem_info_vram_total="25753026560\n")
    r.device("pci0000:00/0000:00:02.0", 0x8086, 0x4680, 0x030000, config=config_space(9))  # built into the processor
    r.device("pci0000:00/0000:00:08.1", 0x1022, 0x1484, 0x060400, (4, 16), (4, 16), config_space(4, True, 4, 4, 16))
    r.device("pci0000:00/0000:00:08.1/0000:04:00.0", 0x1002, 0x164e, 0x030000, (4, 16), (4, 16), config_space(0),
             mem_info_vram_total="536870912\n")
    m = discover(r)
    assert [(g["pci"], g["name"], g["bytes"]) for g in m["gpus"]] == [("0000:03:00.0", "AMD GPU 744c", 25753026560)]


@pytest.mark.parametrize("kind, expected", [("DMA-FQ", "on"), ("identity", "pass"), (None, "off")])
def test_the_iommu_is_what_its_groups_are(tmp_path, kind, expected):
    r = Root(tmp_path)
    r.device("pci0000:00/0000:00:01.0", 0x1022, 0x1483, 0x060400, (4, 16), (4, 16), config_space(4, True, 1, 4, 16))
    r.device("pci0000:00/0000:00:01.0/0000:01:00.0", 0x10de, 0x2204, 0x030000, (4, 16), (4, 16), config_space(0),
             **({"group": 7, "group_type": kind} if kind else {}))
    m = discover(r)
    assert m["iommu"] == expected and pci(m, "0000:01:00.0")["iommu_group"] == ("7" if kind else "")


def test_a_virtual_machine_is_said_to_be_one(tmp_path):
    r = four_v100(tmp_path)
    r.write("proc/cpuinfo", "flags : fpu hypervisor sse2\n")
    m = discover(r, "", SERIN_FAKE_GPUS=4)
    assert m["virtual"] and "virtual machine" in reasons(m)["pci/real"]
    assert pci(m, "0000:00:1c.0")["chipset"] is None
    r = four_v100(tmp_path / "qemu")
    r.write("sys/class/dmi/id/sys_vendor", "QEMU\n")
    assert discover(r)["virtual"]


# ---- the firmware's tables ----

def with_tables(path, *structures):
    r = Root(path)
    r.write("sys/firmware/dmi/tables/DMI", b"".join(structures))
    return discover(r)


def test_channels_and_rates_come_from_the_firmware(tmp_path):
    m = with_tables(tmp_path / "a", *(module(f"DIMM {i % 2}", f"P0 CHANNEL {c}", mib=16384 if c < "C" else 0)
                                      for c in "ABCD" for i in range(2)), END)
    n = m["nodes"][0]
    assert (n["channels"], n["channels_most"], n["memory"], n["mts"]) == (2, 4, "DDR4", 2933)
    m = with_tables(tmp_path / "b", module("DIMM_A1", "BANK 0", kind=0x22, configured=0, rated=5200), module("DIMM_A2", "BANK 1", mib=0),
                    module("DIMM_B1", "BANK 2", mib=0), END)
    n = m["nodes"][0]
    assert (n["channels"], n["channels_most"], n["memory"], n["mts"]) == (1, 2, "DDR5", 5200)


def test_what_names_no_channel_stays_unknown(tmp_path):
    m = with_tables(tmp_path, module("DIMM 1", "BANK 0"), module("DIMM 2", "BANK 1"), END)
    assert m["nodes"][0]["channels"] == 0 and "do not name the channels" in reasons(m)["nodes/0/channels"]


def test_the_boards_names_of_slots_are_taken(tmp_path):
    r = four_v100(tmp_path)
    r.write("sys/firmware/dmi/tables/DMI", slot("PCI-E x16 Slot 6", 0x03, 0) + slot("gone", 0xff, 31) + END)
    assert pci(discover(r), "0000:00:02.0")["slot"] == "PCI-E x16 Slot 6"


@pytest.mark.parametrize("tables", [
    b"", b"\x11", bytes([17, 0, 0, 0]) * 100, bytes([17, 255, 0, 0]) + b"x" * 20, structure(17, b"\xff" * 200, "a" * 500),
    structure(17, struct_body := b"\xff" * 0x50), structure(9, b"\xff" * 3, "x"), b"\xff" * 4096, structure(17, struct_body)[:-1],
], ids=range(9))
def test_broken_tables_do_no_harm(tmp_path, tables):
    assert with_tables(tmp_path, tables)["nodes"][0]["channels"] in (0, 1)


# ---- what no kernel would show ----

def test_hostile_files_do_no_harm(tmp_path):
    r = Root(tmp_path)
    port = "pci0000:00/0000:00:01.0"
    circle = bytearray(config_space(4, True, 1, 4, 16, acs=0x1f))
    circle[0x61], circle[0x142], circle[0x143] = 0x50, 0x01, 0x10  # lists that lead back to where they were
    r.device(port, 0xffff, 0xffff, 0x060400, config=bytes(circle), max_link_width="99999999999999999999\n", max_link_speed="1e9 GT/s\n",
             current_link_speed="Unknown\n", current_link_width="-3\n")
    r.device(f"{port}/0000:01:00.0", 0x10de, 0x2204, 0x030000, config=b"\xff" * 4096, resource="0x0 0xffffffffffffffff 0xffffffff\n" * 20,
             numa_node="99999999999999\n")
    r.device("pci0000:00/0000:00:02.0", 0, 0, 0x060400, config=b"", vendor="", device="0x\n", resource="", numa_node="")
    r.link("0000:07:00.0", "../../../devices/0000:07:00.0/0000:07:00.0")  # below itself
    r.link("0000:08:00.0", "../../../devices/pci0000:00/0000:09:00.0/0000:08:00.0")
    r.link("0000:09:00.0", "../../../devices/pci0000:00/0000:08:00.0/0000:09:00.0")  # below each other
    r.link("0000:0a:00.0", "nowhere")
    r.link("not an address", "../../../devices/pci0000:00/not an address")
    m = discover(r)
    assert [d["address"] for d in m["pci"]] == ["0000:00", "0000:00:01.0", "0000:01:00.0", "0000:00:02.0"]
    assert pci(m, "0000:00:01.0")["kind"] == "root_port" and pci(m, "0000:00:01.0")["acs_redirect"] is True
    assert pci(m, "0000:00:01.0")["link"] == {"gen": 0, "width": 0, "max_gen": 4, "max_width": 16, "idle": False}
    assert pci(m, "0000:01:00.0")["bar_bytes"] == 0 and pci(m, "0000:00:02.0")["vendor"] == "0000"
    why = reasons(m)
    assert all("place in the tree" in why[f"pci/{a}"] for a in ("0000:07:00.0", "0000:08:00.0", "0000:09:00.0", "0000:0a:00.0"))


def test_a_deep_tree_ends(tmp_path):
    r = Root(tmp_path)
    way = "pci0000:00"
    for i in range(80):
        way += f"/0000:{i:02x}:00.0"
        r.device(way, 1, 1, 0x060400)
    assert len(discover(r)["pci"]) == 64


def test_an_empty_root_is_a_machine_of_which_little_is_known(tmp_path):
    r = type("R", (), {"path": tmp_path})
    m = discover(r)
    assert m["pci"] == [] and m["gpus"] == [] and "shows no PCI devices" in reasons(m)["pci"] and m["iommu"] == "unknown"
