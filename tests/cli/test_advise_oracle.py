"""`serin advise` beside a second computation of everything it says, over random traffic, prices and costs."""
import json
import math
import os
import random
import subprocess

import advise_oracle as oracle
import pytest

SEED = int(os.environ.get("SERIN_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
SOURCE = {"source": "https://prices.example.org/list", "date": "2026-11-01"}


def about(r, low, high, ranged=0.6):
    """A number, or a range of two, that lies between low and high on a logarithmic scale."""
    a, b = sorted(math.exp(r.uniform(math.log(low), math.log(high))) for _ in range(2))
    return [a, b] if r.random() < ranged else a


def share(r, low=0.0, high=1.0):
    a, b = sorted(r.uniform(low, high) for _ in range(2))
    return [a, b] if r.random() < 0.6 else a


def random_calls(r):
    t, calls, timed = 1763000000 * 10**6, [], r.random() < 0.75
    routes = [f"route-{i}" for i in range(r.randint(1, 3))]
    gap = math.exp(r.uniform(math.log(0.2), math.log(5000)))
    for i in range(r.randint(3, 150)):
        t += int(r.expovariate(1 / gap) * 1e6) if r.random() < 0.8 else 0
        size = int(math.exp(r.uniform(0, 11)))
        c = {"route": r.choice(routes) if i >= len(routes) else routes[i], "input": size + 1, "cached": int(size * r.random()),
             "output": int(math.exp(r.uniform(0, 7))), "begun_us": 0, "queue": 0, "ttft": 0, "itl": 0, "total": 0}
        if timed:
            c |= {"begun_us": t, "queue": r.randrange(5000), "itl": r.randrange(1, 50000)}
            c["ttft"] = c["queue"] + 1 + size * r.randrange(1, 300)
            c["total"] = c["ttft"] + c["itl"] * c["output"]
        calls.append(c)
    return calls, timed


def random_offer(r, i):
    o = {"provider": f"provider-{i}", "model": f"model-{i}", **SOURCE, "token_ratio": about(r, 0.5, 2),
         "input": about(r, 0.05, 20), "output": about(r, 0.1, 80)}
    if r.random() < 0.7:
        o["cached_read"] = about(r, 0.01, 30)
    if r.random() < 0.5:
        o["cached_write"] = about(r, 0.01, 30)
    for key, chance in (("cache_hit", 0.4), ("cache_written", 0.4), ("batch", 0.5)):
        if r.random() < chance:
            o[key] = share(r)
    if r.random() < 0.6:
        o["availability"] = share(r, 0.98, 0.99999)
    above = 0
    for _ in range(r.choice((0, 0, 1, 3))):
        above += r.randrange(1, 20000)
        tier = {"above": above, "input": about(r, 0.05, 40), "output": about(r, 0.1, 90)}
        if r.random() < 0.5:
            tier["cached_read"] = about(r, 0.01, 30)
        o.setdefault("long", []).append(tier)
    return o


def random_machine(r, i, needs_capacity):
    m = {"name": f"machine-{i}", "price": about(r, 100, 50000), "life_years": about(r, 1, 8), "watts_idle": about(r, 5, 500),
         "joules_per_token": {"prefill": about(r, 0.001, 5), "decode": about(r, 0.01, 20)}}
    if r.random() < 0.7:
        m["resale"] = share(r)
    if r.random() < 0.4:
        m["hosting_per_month"] = about(r, 1, 300)
    if r.random() < 0.7:
        m["availability"] = share(r, 0.9, 0.999)
    elif r.random() < 0.7:
        m["repair"] = {"mtbf_hours": about(r, 500, 50000), "mttr_hours": about(r, 1, 100)}
    if needs_capacity or r.random() < 0.6:
        m["capacity"] = {"prefill_tok_per_s": about(r, 100, 20000), "decode_tok_per_s": about(r, 10, 3000),
                         "parallel": about(r, 1, 64)}
    return m


def random_costs(r, needs_capacity):
    c = {"currency": "EUR", "date": "2026-11-02", "electricity": {"price_per_kwh": about(r, 0.05, 0.6)},
         "staff": {"hours_per_month": about(r, 0.1, 40), "price_per_hour": about(r, 10, 200)},
         "machines": [random_machine(r, i, needs_capacity) for i in range(r.randint(1, 2))]}
    for key, value in (("spare", r.randint(0, 2)), ("utilisation", share(r, 0.1, 1)), ("site_availability", share(r, 0.99, 1))):
        if r.random() < 0.6:
            c[key] = value
    if r.random() < 0.6:
        c["electricity"]["pue"] = share(r, 1, 2)
    return c


def write_calls(path, calls):
    lines = [{"route": c["route"], "tokens": {k: c[k] for k in ("input", "cached", "output")}, "begun_us": c["begun_us"],
              "us": {k: c[k] for k in ("queue", "ttft", "itl", "total")}, "status": 200} for c in calls]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def run(tmp_path, *args):
    done = subprocess.run([os.environ["SERIN"], "advise", *map(str, args), "--json"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def same(got, want, what):
    assert got == pytest.approx(want, rel=1e-9, abs=1e-9), what


def check_facts(t, m):
    for key, at in (("input", ("tokens", "input")), ("cached", ("tokens", "cached")), ("output_p95", ("tokens", "output_p95")),
                    ("input_p50", ("tokens", "prompt_p50")), ("burst", ("burst",)), ("seconds", ("seconds",)),
                    ("calls_per_month", ("calls_per_month",)), ("volume", ("volume",))):
        got = t
        for step in at:
            got = got[step]
        same(got, list(m[key]) if isinstance(m[key], tuple) else m[key], key)
    if m["measured"] and t["measured"]:
        for key, value in m["measured"].items():
            same(t["measured"][key], list(oracle.pair(value)), key)


def check_cloud(option, m, offer, batch):
    r, tiers = oracle.cloud_ranges(offer, batch)
    same(option["cost"]["mid"], oracle.cloud_cost(m, tiers, oracle.middle(r)), "cloud")
    same(option["cost"]["range"], oracle.ends(r, lambda v: oracle.cloud_cost(m, tiers, v)), "range of the cloud")
    return r, tiers


def check_local(option, m, machine, costs, target, offer, batch):
    """offer: the cloud behind the machines, or None."""
    r, tiers, behind = oracle.local_ranges(machine, costs, m), None, None
    if offer:
        more, tiers = oracle.cloud_ranges(offer, batch)
        r, behind = {**r, **more}, oracle.pair(offer["availability"])[0]

    def cost(v):
        return oracle.local_cost(m, machine, costs, v, target, behind, oracle.cloud_cost(m, tiers, v) if offer else 0)
    same(option["cost"]["mid"], cost(oracle.middle(r)), "local")
    same(option["cost"]["range"], oracle.ends(r, cost), "range of local")
    needed, slots, load = oracle.needed_machines(m, oracle.middle(r), machine)
    same([option["parts"]["slots"], option["parts"]["load"]], [slots, load], "answers at once and work")
    spares, low = oracle.fleet(machine, costs, needed, target, behind)
    assert (option["parts"]["machines"], option["parts"]["spares"]) == (needed, spares)
    if low:
        same(option["availability"][0], low, "availability")
    assert option["reaches"] == (not target or low >= target)


def difference(m, machine, costs, target, option, offer, batch):
    """Local less cloud as a function of all assumptions and the volume; option: the local one, as printed."""
    r, tiers = oracle.cloud_ranges(offer, batch)
    r |= oracle.local_ranges(machine, costs, m)
    behind = oracle.pair(offer["availability"])[0] if "provider" in option else None

    def at(v, volume=1.0):
        cloud = oracle.cloud_cost(m, tiers, v, volume)
        return oracle.local_cost(m, machine, costs, v, target, behind, cloud, volume) - cloud
    return r, at


def check_swings(route, m, r, at):
    v = oracle.middle(r)
    moves = {k: [at({**v, k: x}) for x in ends] for k, ends in r.items() if ends[0] != ends[1]}
    moves["volume"] = [at(v, x) for x in m["volume"]]
    widest = sorted((abs(b - a) for a, b in moves.values()), reverse=True)
    widest = [w for w in widest if w > 1e-9 * max(widest)][:3]
    got = [abs(s["at_high"] - s["at_low"]) for s in route["sensitivities"]]
    same(got[:len(widest)], widest, "sensitivities")
    assert route["largest_uncertainty"] == (route["sensitivities"][0]["assumption"] if got else None)
    for s in route["sensitivities"]:
        assert s["flips"] == ((s["at_low"] < 0) != (s["at_high"] < 0))


def check_break_even(route, m, r, at):
    """There local and cloud cost the same, or a machine more is needed; at no lower volume is local cheaper."""
    v, even = oracle.middle(r), route["break_even_calls_per_month"]
    now = m["calls_per_month"]
    top = even if even != "never" else 1e4 * now
    scale = abs(at(v, top / now)) + 1
    if even != "never":
        assert at(v, even / now * (1 - 1e-6)) <= 1e-6 * scale or at(v, even / now * (1 + 1e-6)) <= 1e-6 * scale
    for k in range(1, 60):
        below = top * 0.999 * (k / 60) ** 2 / now
        assert at(v, below) >= -1e-6 * scale, (k, even)


def check_split(out, calls, costs, target, per_day):
    """It costs what its parts do, and no more than all of one kind."""
    split, everything = out["split"], oracle.facts(calls, calls, per_day)
    routes = {r["route"]: r for r in out["routes"]}
    assert sorted([*split["local"], *split["cloud"]]) == sorted(routes)
    clouds = {name: r["options"][r["cloud"]] for name, r in routes.items()}
    cost = sum(clouds[name]["cost"]["mid"] for name in split["cloud"])
    if split["local"]:
        m = oracle.facts([c for c in calls if c["route"] in split["local"]], calls, per_day)
        m["measured"] = everything["measured"] and {**(m["measured"] or everything["measured"]),
                                                    "parallel": everything["measured"]["parallel"]}
        fleets = []
        for machine in costs["machines"]:
            v = oracle.middle(oracle.local_ranges(machine, costs, m))
            _, low = oracle.fleet(machine, costs, oracle.needed_machines(m, v, machine)[0], target, None)
            fleets.append((bool(target) and low < target, oracle.local_cost(m, machine, costs, v, target), machine["name"]))
        assert split["machine"] == min(fleets)[2]
        cost += min(fleets)[1]
    same(split["cost"], cost, "split")
    assert split["cost"] <= split["all_local"] * (1 + 1e-12)
    if split["all_cloud"] is not None:
        same(split["all_cloud"], sum(c["cost"]["mid"] for c in clouds.values()), "all in the cloud")
        assert split["cost"] <= split["all_cloud"] * (1 + 1e-12)


@pytest.mark.parametrize("case", range(16))
def test_every_figure_is_that_of_a_second_computation(case, tmp_path):
    print("seed", SEED, "case", case)
    r = random.Random(f"{SEED} {case}")
    calls, timed = random_calls(r)
    offers = [random_offer(r, i) for i in range(r.randint(1, 3))]
    costs = random_costs(r, not timed)
    target = r.choice((None, 0.99, 0.999))
    per_day = None if timed and r.random() < 0.6 else r.uniform(1, 1e5)
    batch = {c["route"] for c in calls if r.random() < 0.2}
    if timed and all(c["output"] < 2 for c in calls):
        calls[0]["output"] = 2
    write_calls(tmp_path / "calls.jsonl", calls)
    (tmp_path / "prices.yaml").write_text(json.dumps({"currency": "EUR", "date": "2026-11-02", "offers": offers}))
    (tmp_path / "costs.yaml").write_text(json.dumps(costs))
    args = ["--prompts", "calls.jsonl", "--prices", "prices.yaml", "--hardware", "costs.yaml"]
    args += ["--availability", str(target)] if target else []
    args += ["--calls-per-day", repr(per_day)] if per_day else []
    for name in sorted(batch):
        args += ["--batch", name]
    out = run(tmp_path, *args)
    names = list(dict.fromkeys(c["route"] for c in calls))
    assert [x["route"] for x in out["routes"]] == names
    everything = oracle.facts(calls, calls, per_day)
    for route in [*out["routes"], out["total"]]:
        is_total = route is out["total"]
        m = everything if is_total else oracle.facts([c for c in calls if c["route"] == route["route"]], calls, per_day)
        m["measured"] = m["measured"] or everything["measured"]
        if m["measured"]:  # one machine answers all routes
            m["measured"] = {**m["measured"], "parallel": everything["measured"]["parallel"]}
        is_batch = batch >= set(names) if is_total else route["route"] in batch
        check_facts(route["traffic"], m)
        clouds = [o for o in route["options"] if o["kind"] == "cloud"]
        for option, offer in zip(clouds, offers, strict=True):
            check_cloud(option, m, offer, is_batch)
        by_name = {o["name"]: o for o in costs["machines"]}
        for option in route["options"][len(clouds):]:
            behind = next((o for o in offers if o["provider"] == option.get("provider")), None)
            check_local(option, m, by_name[option["machine"]], costs, target, behind, is_batch)
        cheapest = [min((o for o in route["options"] if (o["kind"] == "cloud") == cloud),
                        key=lambda o: (not o["reaches"], bool(target) and not o["availability"], o["cost"]["mid"])) for cloud in (True, False)]
        assert [route["options"][route["cloud"]], route["options"][route["local"]]] == cheapest
        cloud, local = cheapest
        can = [o for o in cheapest if o["reaches"]]
        want = min(can, key=lambda o: o["cost"]["mid"])["kind"].split(",")[0] if can else "none"
        assert route["verdict"] == want
        offer = next(o for o in offers if o["provider"] == cloud["provider"])
        ranges, at = difference(m, by_name[local["machine"]], costs, target, local, offer, is_batch)
        check_swings(route, m, ranges, at)
        check_break_even(route, m, ranges, at)
    assert (out["split"] is None) == (len(names) == 1)
    if out["split"]:
        check_split(out, calls, costs, target, per_day)
