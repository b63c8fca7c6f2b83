# Shared by ./demo and ./check (sourced, bash): what a machine needs before Serin can be built and tested.
# Installs only what is missing, so that a second run costs a fraction of a second. Expects ROOT to be the
# repository's root; sets PYTHON by setup_python.

# What the build needs, what only the demo needs, and what only the tests need. git is there, or nobody could have cloned.
DEBIAN_BUILD="gcc libc6-dev cmake ninja-build pkg-config libjansson-dev libssl-dev libpcre2-dev libutf8proc-dev
  libedit-dev libsodium-dev libyaml-dev libcurl4-openssl-dev libmicrohttpd-dev libgnutls28-dev
  libsqlite3-dev libpq-dev libzstd-dev libxxhash-dev libhwloc-dev python3 python3-venv ca-certificates"
DEBIAN_DEMO="curl"
DEBIAN_TESTS="ccache openssl clang clang-format libclang-rt-14-dev binutils libcmocka-dev libsimde-dev postgresql"
DEBIAN_ARM64="gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"

export HOME=${HOME:-$(getent passwd "$(id -u)" | cut -d: -f6)}

say() { printf '%s\n' "$*"; }
die() { printf '%s\n' "$*" >&2; exit 1; }
seconds() { awk -v a="$1" -v b="$(date +%s.%N)" 'BEGIN { printf "%.1f", b - a }'; }

# The packages of a list that dpkg does not report as installed.
missing_packages() {
  local name status
  for name in "$@"; do
    status=$(dpkg-query -W -f='${Status}' "$name" 2>/dev/null || true)
    [ "$status" = "install ok installed" ] || printf '%s ' "$name"
  done
}

# setup_packages NAME...: installs Debian packages; on other systems says what is needed and goes on.
setup_packages() {
  if ! command -v apt-get >/dev/null; then
    command -v cmake >/dev/null && return 0
    die "This is not Debian or Ubuntu. Install by your system's own names, then run this again: $*"
  fi
  local missing as_root="" log="$ROOT/build/packages.log"
  missing=$(missing_packages "$@")
  [ -n "$missing" ] || return 0
  if [ "$(id -u)" != 0 ]; then
    as_root="sudo"
    if ! command -v sudo >/dev/null || { [ ! -t 0 ] && ! sudo -n true 2>/dev/null; }; then
      die "These Debian packages are missing: $missing
Neither root nor sudo is at hand here. Ask someone who has it to run, once:
  apt-get install --no-install-recommends $missing"
    fi
  fi
  say "installing Debian packages: $missing"
  # An update may fail for a source that has none of these; what counts is whether the packages come.
  if ! { $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q update || true
         $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install $missing
       } >"$log" 2>&1 </dev/null; then
    tail -n 15 "$log" >&2
    die "apt-get could not install: $missing(the whole log: $log)"
  fi
}

# setup_venv: build/venv, a virtual environment with pip; sets PYTHON.
setup_venv() {
  PYTHON="$ROOT/build/venv/bin/python"
  "$PYTHON" -m pip --version >/dev/null 2>&1 && return 0
  local candidate
  for candidate in python3 /usr/bin/python3; do
    rm -rf "$ROOT/build/venv"
    "$candidate" -m venv "$ROOT/build/venv" >"$ROOT/build/venv.log" 2>&1 && return 0
  done
  die "No virtual environment could be made in build/venv: $(tail -n 3 "$ROOT/build/venv.log")"
}

# setup_python: the virtual environment with what tests/requirements.txt lists, installed when the list changed.
setup_python() {
  setup_venv
  local list="$ROOT/tests/requirements.txt" stamp="$ROOT/build/venv/requirements.sha256" sum
  sum=$(sha256sum <"$list")
  [ "$(cat "$stamp" 2>/dev/null)" = "$sum" ] && return 0
  say "installing Python packages into build/venv"
  if ! "$PYTHON" -m pip install -q --disable-pip-version-check -r "$list" >"$ROOT/build/pip.log" 2>&1 </dev/null
  then
    tail -n 15 "$ROOT/build/pip.log" >&2
    die "pip could not install tests/requirements.txt (the whole log: build/pip.log)"
  fi
  printf '%s\n' "$sum" >"$stamp"
}

# The folder where models are kept; the same rule as the program's own.
models_dir() { printf '%s\n' "${SERIN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/serin}/models"; }

# configure_preset NAME TESTS: configures build/NAME unless that is done; TESTS is ON or OFF. A tree that has the
# tests keeps them.
configure_preset() {
  local preset=$1 tests=$2 log="$ROOT/build/$1.log" have=""
  if command -v ccache >/dev/null; then
    export CMAKE_C_COMPILER_LAUNCHER=ccache CCACHE_BASEDIR="$ROOT" CCACHE_NOHASHDIR=1
  fi
  if [ -f "$ROOT/build/$preset/build.ninja" ]; then
    have=$(sed -n 's/^SERIN_TESTS:[A-Z]*=//p' "$ROOT/build/$preset/CMakeCache.txt")
  fi
  case $have,$tests in ON,* | OFF,OFF) return 0 ;; esac
  (cd "$ROOT" && cmake --preset "$preset" -DSERIN_TESTS="$tests") >"$log" 2>&1 </dev/null || { tail -n 25 "$log" >&2; return 1; }
}

# build_preset NAME [TARGET...]: builds what configure_preset set up; quiet but for a progress line on a
# terminal. The log is build/NAME.log; its end is shown on failure.
build_preset() {
  local preset=$1 log="$ROOT/build/$1.log" line status=0
  shift
  if [ -t 1 ] && [ -z "${CI:-}" ]; then
    (cd "$ROOT" && cmake --build --preset "$preset" ${1:+--target "$@"}) 2>&1 </dev/null | tee "$log" |
      while IFS= read -r line; do
        line=${line%%]*} # [12/80] Building ...
        case $line in "["*) printf '\r\033[K  %s' "${line#[}" ;; esac
      done || status=1
    printf '\r\033[K'
  else
    (cd "$ROOT" && cmake --build --preset "$preset" ${1:+--target "$@"}) >"$log" 2>&1 </dev/null || status=1
  fi
  [ "$status" = 0 ] || { tail -n 40 "$log" >&2; return 1; }
}
