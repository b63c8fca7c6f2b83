"""tools/lint reports each kind of violation, at its line, and nothing in a clean tree."""
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.repo
LINT = Path(__file__).resolve().parents[2] / "tools/lint"
TOP = "/* A file for the tests of the lint: owns nothing. */\n"


@pytest.fixture
def tree(tmp_path):
    """A function that writes a file into a small tree that has no findings by itself."""
    (tmp_path / "tools").mkdir()
    shutil.copy(LINT.parents[1] / ".clang-format", tmp_path)

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return tmp_path

    write("include/serin/serin.h", TOP + '#define SRN_API __attribute__((visibility("default")))\n'
          "SRN_API int srn_good(void);\n")
    return write


def lint(root: Path, *rules: str) -> list[str]:
    done = subprocess.run([sys.executable, LINT, "--root", root, *rules], capture_output=True, text=True)
    lines = done.stdout.splitlines()
    findings = [line for line in lines[:-1] if not line.startswith("warning:")]
    assert done.returncode == (1 if findings else 0), done.stdout + done.stderr
    assert lines[-1].startswith("lint: "), done.stdout + done.stderr
    return findings


def test_a_clean_tree_has_no_findings(tree):
    root = tree("src/model/a.c", TOP + '#include "quant/quant.h"\n#include "model/model_internal.h"\n\n'
                "int srn_f(float x) {\n    return x < 1 ? 0 : (int)fmaf(x, x, sqrtf(fabsf(x)));\n}\n")
    assert lint(root) == []


@pytest.mark.parametrize("file, include, said", [
    ("src/quant/a.c", "format/format.h", "above"),
    ("src/base/a.h", "cli/cli.h", "above"),
    ("src/cpu/x86/a.c", "engine/engine.h", "above"),
    ("src/cuda/a.c", "cpu/cpu.h", "beside"),
    ("src/config/a.c", "client/client.h", "beside"),
    ("src/engine/a.c", "cpu/cpu_internal.h", "cpu alone"),
    ("src/engine/a.c", "queue.h", "start with their room"),
    ("src/attic/a.c", "base/base.h", "no place"),
    ("include/serin/x.h", "base/base.h", "public header"),
])
def test_includes_that_run_up_or_into_another_room_are_found(tree, file, include, said):
    found = lint(tree(file, TOP + f'#include "{include}"\n'), "includes")
    assert len(found) == 1 and found[0].startswith(f"{file}:2: includes: ") and said in found[0]


@pytest.mark.parametrize("file, call", [
    ("src/base/a.c", "strcpy(a, b)"), ("src/base/a.c", "n = atoi(b)"), ("src/cli/run.c", "exit(1)"),
    ("src/base/a.c", "assert(n)"), ("tests/unit/test_a.c", "sprintf(a, b)"), ("src/cpu/a.c", "x = expf(x)"),
    ("src/engine/a.c", "x = floor(x)"), ("src/quant/a.c", "x = rintf (x)"),
])
def test_banned_calls_are_found(tree, file, call):
    name = call.split("(")[0].split()[-1]
    found = lint(tree(file, TOP + f"\nvoid srn_f(void) {{\n    {call};\n}}\n"), "banned")
    assert len(found) == 1 and found[0].startswith(f"{file}:4: banned: {name}()")


@pytest.mark.parametrize("file, code", [
    ("src/cli/main.c", "exit(1);"), ("tests/unit/test_a.c", "abort();"), ("src/token/a.c", "x = expf(x);"),
    ("src/base/a.c", '/* strcpy(a, b) */ f("system(x)");'), ("src/base/a.c", "table->exit(1), own_strcpy(a, b);"),
])
def test_calls_that_only_look_banned_are_not_found(tree, file, code):
    assert lint(tree(file, TOP + f"\nvoid srn_f(void) {{\n    {code}\n}}\n"), "banned") == []


def build_library(root: Path, code: str) -> Path:
    build = root / "build/release"
    build.mkdir(parents=True)
    (build / "a.c").write_text(code)
    for command in (["cc", "-fPIC", "-fvisibility=hidden", "-c", "a.c", "-o", "a.o"], ["ar", "rc", "libserin.a", "a.o"],
                    ["cc", "-shared", "a.o", "-o", "libserin.so"]):
        subprocess.run(command, cwd=build, check=True)
    return root


API = '__attribute__((visibility("default"))) '


@pytest.mark.parametrize("code, said", [
    (API + "int srn_good(void) { return 0; }\nint helper(void) { return 1; }\n", "helper is global"),
    (API + "int srn_good(void) { return 0; }\n" + API + "int srn_extra = 1;\n", "srn_extra is exported"),
    ("int srn_good(void) { return 0; }\n", "srn_good is declared SRN_API"),
])
def test_wrong_symbols_are_found(tree, code, said):
    found = lint(build_library(tree("src/base/a.c", TOP), code), "symbols")
    assert len(found) == 1 and said in found[0]


RIGHT = (API + "int srn_good(void) { return 0; }\nint srn__in(void) { return 1; }\n"
         'static const char *const names[] = {"a", "b"};\nconst char *srn__name(int i) { return names[i]; }\n')


def test_right_symbols_pass(tree):
    assert lint(build_library(tree("src/base/a.c", TOP), RIGHT), "symbols", "state") == []


@pytest.mark.parametrize("variable", ["int srn__count;", "int srn__count = 1;", "_Thread_local int srn__count;",
                                      'const char *srn__count = "a";'])
def test_variables_of_the_library_are_found(tree, variable):
    found = lint(build_library(tree("src/base/a.c", TOP), RIGHT + variable + "\n"), "state")
    assert len(found) == 1 and "srn__count is a variable" in found[0]


def test_variables_inside_functions_are_found(tree):
    found = lint(build_library(tree("src/base/a.c", TOP), RIGHT + "int srn__n(void) { static int n; return n++; }\n"), "state")
    assert len(found) == 1 and "n.0 is a variable" in found[0]


@pytest.mark.skipif(not shutil.which("clang-format"), reason="needs clang-format")
def test_packages_and_large_files_are_found_once_they_are_tracked(tree):
    tree("docs/data.txt", "x" * (513 << 10))
    root = tree("some-1.0-py3-none-any.whl", "x")
    assert lint(root, "large") == []
    subprocess.run(["git", "init", "-q", root], check=True)
    subprocess.run(["git", "-C", root, "add", "docs", "some-1.0-py3-none-any.whl"], check=True)
    found = lint(root, "large")
    assert [line.split(":")[0] for line in found] == ["docs/data.txt", "some-1.0-py3-none-any.whl"]


def test_unformatted_code_is_found(tree):
    found = lint(tree("src/base/a.c", TOP + "int  srn_f( void );\n"), "format")
    assert len(found) == 1 and found[0].startswith("src/base/a.c:2: format: ")


def test_long_functions_are_found_and_excused_by_the_list(tree):
    body = "    x++;\n" * 90
    root = tree("src/base/a.c", TOP + f"\nstatic int long_one(int x,\n                    int y) {{\n{body}}}\n")
    found = lint(root, "sizes")
    assert len(found) == 1 and found[0].startswith("src/base/a.c:3: length: long_one has 93 lines")
    tree("tools/lint-allow.txt", "src/base/a.c:long_one length a table in code\n")
    assert lint(root, "sizes") == []
    tree("src/base/a.c", TOP)
    assert "needs no exception" in lint(root, "sizes")[0]


def test_functions_with_many_branches_are_found(tree):
    body = "    if (x && y) x++;\n" * 13
    found = lint(tree("src/base/a.c", TOP + f"\nint srn_f(int x, int y) {{\n{body}}}\n"), "sizes")
    assert len(found) == 1 and "srn_f has 26 branches" in found[0]


def test_long_files_are_found(tree):
    assert "1302 lines" in lint(tree("src/base/a.c", TOP + "\n" + "int x;\n" * 1300), "sizes")[0]


@pytest.mark.parametrize("line", [
    "see /ro" + "ot/notes", "cd /wor" + "k/main", "/ho" + "me/ann/serin", "get it from py" + "pi.org",
    "add -march=na" + "tive", "TO" + "DO: later", "FI" + "XME",
])
def test_words_of_one_machine_or_of_unfinished_work_are_found(tree, line):
    found = lint(tree("docs/a.md", f"# A page\n{line}\n"), "words")
    assert len(found) == 1 and found[0].startswith("docs/a.md:2: words: ")


def test_pages_that_point_at_nothing_are_found(tree):
    tree("src/base/a.c", TOP)
    root = tree("docs/a.md", "[a](b.md) [c](../src/base/a.c#L1) [d](https://example.org/x)\n"
                "`src/base/a.c` `src/ROOM/x.c` `fuzz/fuzz_NAME.c`\n`src/base/gone.c`\n")
    assert lint(root, "links") == ["docs/a.md:1: links: b.md does not exist",
                                   "docs/a.md:3: links: src/base/gone.c does not exist"]


def test_a_page_that_the_index_leaves_out_is_found(tree):
    tree("docs/a.md", "# A\n")
    tree("docs/b.md", "# B, which names a.md\n")
    assert lint(tree("docs/README.md", "[b](b.md), not a.md\n"), "links") == [
        "docs/README.md:1: links: a.md is not listed"]


def test_a_file_without_a_comment_at_its_top_is_found(tree):
    found = lint(tree("src/base/a.c", '#include "base/base.h"\n/* what it owns, too late */\n'), "tops")
    assert len(found) == 1 and found[0].startswith("src/base/a.c:1: tops: ")
