"""How far an engine is from the exact model: mean KL(oracle || engine) over a text, Serin's next to the peer's.

    python tests/tools/kl.py MODEL.gguf... [--text tests/data/varied.txt] [--json] [--bar 0.6]

The text is cut into contexts of 512 tokens without overlap (each begins with BOS where the model wants one;
a rest that fills no context is left out), and every position counts. All sides get the same token ids: the
float64 oracle, `serin score --logits` of the program in the environment variable SERIN, and the peer engine
whose library peer_logits.py finds. A side that is not there is left out and said so. What the oracle computes
is kept under --cache, so that only the first run on a model is slow.
"""
import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import oracle
import peer_logits

ROOT = Path(__file__).resolve().parents[2]
ROWS = 32  # positions compared at a time: 32 x 262144 float64 are 67 MB


def say(text):
    print(text, file=sys.stderr, flush=True)


def serin_program():
    path = os.environ.get("SERIN", ROOT / "build/release/serin")
    return str(path) if os.access(path, os.X_OK) else None


def tokenize(program, model, text):
    if not program:
        raise SystemExit("kl: no serin program to tokenize with: build it, set SERIN, or give --tokens")
    done = subprocess.run([program, "tokenize", model, text, "--json", "--no-bos"], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"kl: {done.stderr.strip()}")
    return json.loads(done.stdout)


def make_windows(model, tokens, size):
    bos = []
    fields = model.reader.fields
    if "tokenizer.ggml.add_bos_token" in fields and fields["tokenizer.ggml.add_bos_token"].contents():
        bos = [fields["tokenizer.ggml.bos_token_id"].contents()]
    step = size - len(bos)
    return [bos + tokens[i:i + step] for i in range(0, len(tokens) - step + 1, step)]


def exact_states(model, windows, cache):
    """The oracle's last hidden states [windows, tokens, hidden] in float64, from the cache if it has them."""
    stat = os.stat(model.path)
    key = json.dumps([stat.st_size, stat.st_mtime_ns, windows, Path(oracle.__file__).read_text()])
    path = Path(cache) / f"{Path(model.path).stem}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npy"
    if path.exists():
        return np.load(path, mmap_mode="r")
    states = []
    for i, window in enumerate(windows):
        states.append(oracle.hidden_states(model, window))
        say(f"{Path(model.path).name}: oracle, context {i + 1} of {len(windows)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.stack(states))
    return np.load(path, mmap_mode="r")


class Side:
    """One engine's figures, gathered a few positions at a time."""

    def __init__(self):
        self.kl, self.agree, self.nll = [], [], []

    def add(self, exact, other, following):
        """exact, other: log-probabilities [rows, vocabulary]; following: the next token of each row or -1."""
        if exact is not None:
            self.kl.append((np.exp(exact) * (exact - other)).sum(1))
            self.agree.append(exact.argmax(1) == other.argmax(1))
        known = following >= 0
        self.nll.append(-other[known, following[known]])

    def figures(self):
        out = {"perplexity": float(np.exp(np.concatenate(self.nll).mean()))}
        if self.kl:
            kl = np.concatenate(self.kl)
            out |= {"mean_kl": float(kl.mean()), "median_kl": float(np.median(kl)), "max_kl": float(kl.max()),
                    "standard_error": float(kl.std(ddof=1) / np.sqrt(len(kl))),
                    "top1_agreement": float(np.concatenate(self.agree).mean())}
        return out


def serin_logits(program, model, window, options, folder):
    """float32 [tokens, vocabulary] of one context by `serin score`."""
    tokens, out = Path(folder) / "tokens.json", Path(folder) / "logits.f32"
    tokens.write_text(json.dumps(window))
    done = subprocess.run([program, "score", model.path, "--tokens", tokens, "--logits", out, *options],
                          capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"kl: {done.stderr.strip()}")
    got = np.fromfile(out, "<f4")
    if got.size != len(window) * model.vocab:
        raise SystemExit(f"kl: serin wrote {got.size} logits instead of {len(window)} x {model.vocab}")
    return got.reshape(len(window), model.vocab)


def measure(path, a):
    program = None if a.no_serin else serin_program()
    library = None if a.no_peer else peer_logits.find_library()
    if not program and not a.no_serin:
        say("kl: no serin program: build it or set SERIN")
    if not library and not a.no_peer:
        say("kl: no peer to compare with: set PEERS_LIB to the folder that holds libllama.so")
    model = oracle.Model(path)
    if a.tokens:
        tokens = json.loads(Path(a.tokens).read_text())
    else:
        tokens = tokenize(program or serin_program(), path, a.text)
    windows = make_windows(model, tokens, a.window)
    if not windows:
        raise SystemExit(f"kl: {len(tokens)} tokens do not fill one context of {a.window}")
    states = exact_states(model, windows, a.cache)
    if a.contexts and a.contexts < len(windows):  # spread over the text
        chosen = np.linspace(0, len(windows) - 1, a.contexts).round().astype(int)
        windows, states = [windows[i] for i in chosen], [states[i] for i in chosen]
    peer = peer_logits.Peer(library, path, a.window, a.threads) if library else None
    sides = {"oracle": Side()} | ({"serin": Side()} if program else {}) | ({"peer": Side()} if peer else {})
    options = ["--threads", str(a.threads), *a.score_args.split()]
    with tempfile.TemporaryDirectory() as folder:
        for number, (window, state) in enumerate(zip(windows, states)):
            given = {}
            if program:
                given["serin"] = serin_logits(program, model, window, options, folder)
            if peer:
                given["peer"] = peer.logits(window)
            following = np.array(window[1:] + [-1])
            # Rounding the exact logits to float32 moves a divergence by 1e-12; computing them is what counts.
            exact_logits = oracle.head(model, state, dtype=np.float32)
            for i in range(0, len(window), ROWS):
                rows = np.s_[i:i + ROWS]
                exact = oracle.log_softmax(exact_logits[rows].astype(np.float64))
                sides["oracle"].add(None, exact, following[rows])
                for name, logits in given.items():
                    sides[name].add(exact, oracle.log_softmax(logits[rows].astype(np.float64)), following[rows])
            say(f"{Path(path).name}: context {number + 1} of {len(windows)}")
    if peer:
        peer.close()
    result = {"model": Path(path).name, "tokens": sum(map(len, windows)), "contexts": len(windows),
              **{name: side.figures() for name, side in sides.items()}}
    if program and peer:
        result["ratio"] = result["serin"]["mean_kl"] / result["peer"]["mean_kl"]
    return result


def print_table(r, first):
    head = ("model", "tokens", "engine", "mean KL", "+-", "max KL", "top-1", "perplexity", "ratio")
    line = "{:34} {:>6} {:8} {:>9} {:>8} {:>8} {:>7} {:>11} {:>6}"
    if first:
        print(line.format(*head))
    for name in ("oracle", "serin", "peer"):
        if name not in r:
            continue
        s, cells = r[name], ("", "", "", "")
        if "mean_kl" in s:
            cells = (f"{s['mean_kl']:.6f}", f"{s['standard_error']:.6f}", f"{s['max_kl']:.4f}",
                     f"{s['top1_agreement']:.4f}")
        ratio = f"{r['ratio']:.3f}" if name == "serin" and "ratio" in r else ""
        print(line.format(r["model"], r["tokens"], name, *cells, f"{s['perplexity']:.4f}", ratio), flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("models", nargs="+", metavar="MODEL.gguf")
    p.add_argument("--text", default=str(ROOT / "tests/data/varied.txt"), help="the text (tests/data/varied.txt)")
    p.add_argument("--tokens", help="a JSON array of the text's token ids without BOS, instead of --text")
    p.add_argument("--window", type=int, default=512, help="tokens per context (512)")
    p.add_argument("--contexts", type=int, help="only so many contexts, spread over the text (all)")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--score-args", default="", help="more options for `serin score`, e.g. '--kv f16'")
    p.add_argument("--cache", default=str(ROOT / "build/kl"), help="where the oracle's results are kept (build/kl)")
    p.add_argument("--no-serin", action="store_true")
    p.add_argument("--no-peer", action="store_true")
    p.add_argument("--bar", type=float, help="end with 1 if a ratio of Serin's mean KL to the peer's is above this")
    p.add_argument("--json", action="store_true")
    a = p.parse_args()
    results = []
    for path in a.models:
        results.append(measure(path, a))
        if not a.json:
            print_table(results[-1], first=len(results) == 1)
    if a.json:
        print(json.dumps(results, indent=1))
    if a.bar and any(r.get("ratio", 0) > a.bar for r in results):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
