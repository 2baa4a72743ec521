#!/usr/bin/env bash
# Creates the environment: .venv (Python) and .tools/bin/nextflow. Run with 'make setup'.
# Later runs only compare the stamp files.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."

readonly MIN_PYTHON=3.11 MIN_JAVA=17 MIN_NEXTFLOW=24.10
readonly OWN_NEXTFLOW=tools/nextflow/nextflow
readonly VENV_STAMP=.venv/.xtalfill-stamp NEXTFLOW_STAMP=.tools/nextflow/.stamp

say() { echo "setup: $*"; }
die() {
    echo "ERROR: $*" >&2
    exit 1
}
have() { command -v "$1" > /dev/null 2>&1; }
at_least() { [[ $(printf '%s\n' "$1" "$2" | sort -V | head -n 1) == "$2" ]]; }
digest() { cat "$@" | sha256sum | cut -d ' ' -f 1; }

# Tries to install a Debian package; the caller checks the result.
apt_install() {
    if [[ $EUID -ne 0 ]] || ! have apt-get; then
        return 0
    fi
    say "installing the system package $1"
    export DEBIAN_FRONTEND=noninteractive
    { apt-get -qq update && apt-get -qq install -y --no-install-recommends "$1"; } < /dev/null > /dev/null ||
        say "apt-get could not install $1"
}

java_version() {
    local java=${JAVA_CMD:-${JAVA_HOME:+$JAVA_HOME/bin/}java}
    "$java" -version 2>&1 | sed -nE 's/.*version "([0-9]+).*/\1/p;T;q' || true
}

check_java() {
    [[ -n $(java_version) ]] || apt_install openjdk-17-jre-headless
    local version
    version=$(java_version)
    if [[ -z $version ]] || ! at_least "$version" "$MIN_JAVA"; then
        die "Nextflow needs Java $MIN_JAVA or newer, found ${version:-none}; install a JRE (Debian: openjdk-17-jre-headless)"
    fi
}

# Prints a Python that is new enough, or nothing.
find_python() {
    local name
    for name in "${PYTHON:-}" python3.11 python3; do
        if [[ -n $name ]] && "$name" -c "import sys; sys.exit(sys.version_info < (${MIN_PYTHON/./, }))" 2> /dev/null; then
            echo "$name"
            return
        fi
    done
}

make_venv() {
    local python
    python=$(find_python)
    if [[ -z $python ]] || ! "$python" -c "import ensurepip, venv" 2> /dev/null; then
        apt_install python3-venv
        python=$(find_python)
    fi
    [[ -n $python ]] || die "xtalfill needs Python $MIN_PYTHON or newer; install it, or set PYTHON=/path/to/python"
    "$python" -m venv --clear .venv || die "$python cannot create a virtual environment (Debian: install python3-venv)"
}

# Prints the version of a Nextflow launcher, or nothing if it does not start.
nextflow_version() {
    timeout 120 "$1" -version < /dev/null 2> /dev/null | sed -nE 's/.*version ([0-9][0-9.]*).*/\1/p' | head -n 1 || true
}

# Prints a Nextflow on PATH that is new enough and not the launcher of this repository.
nextflow_on_path() {
    local candidate version
    while read -r candidate; do
        case $(readlink -f "$candidate") in
            "$PWD/$OWN_NEXTFLOW" | "$PWD/.tools/bin/nextflow") continue ;;
        esac
        version=$(nextflow_version "$candidate")
        if [[ -n $version ]] && at_least "$version" "$MIN_NEXTFLOW"; then
            echo "$candidate"
            return
        fi
    done < <(type -aP nextflow)
}

resolve_nextflow() {
    have mvn || apt_install maven
    have mvn || die "neither Nextflow >= $MIN_NEXTFLOW nor Maven is on PATH; install one of them (Debian: maven)"
    say "installing Nextflow with Maven"
    rm -rf .tools/nextflow/lib.part
    mvn -B -ntp -q -Dstyle.color=never -f tools/nextflow/pom.xml dependency:copy-dependencies \
        -DincludeScope=runtime -DoutputDirectory="$PWD/.tools/nextflow/lib.part" > .tools/nextflow/maven.log 2>&1 ||
        die "Maven could not install Nextflow; see .tools/nextflow/maven.log"
    rm -rf .tools/nextflow/lib
    mv .tools/nextflow/lib.part .tools/nextflow/lib
    [[ -n $(nextflow_version "$OWN_NEXTFLOW") ]] || die "the installed Nextflow does not start; try $OWN_NEXTFLOW -version"
    archive_classes
}

# Keeps the classes of a start in the archive that the launcher uses; without one it starts more slowly.
archive_classes() {
    local archive=$PWD/.tools/nextflow/classes.jsa launch
    launch=$(mktemp -d)
    rm -f "$archive"
    (cd "$launch" && NXF_OPTS="-XX:ArchiveClassesAtExit=$archive.part" \
        timeout 300 "$OLDPWD/$OWN_NEXTFLOW" run "$OLDPWD/main.nf" --help) > .tools/nextflow/archive.log 2>&1 || true
    rm -rf "$launch"
    if [[ -f $archive.part ]]; then
        mv -f "$archive.part" "$archive"
    else
        say "no archive of Nextflow's classes: starts take longer; see .tools/nextflow/archive.log"
    fi
}

setup_nextflow() {
    local wanted target
    wanted=$(digest tools/nextflow/pom.xml tools/setup.sh)
    if [[ -f $NEXTFLOW_STAMP && $(< "$NEXTFLOW_STAMP") == "$wanted" && -x $(< .tools/nextflow/target) ]]; then
        return
    fi
    check_java
    mkdir -p .tools/bin .tools/nextflow
    target=$(nextflow_on_path)
    if [[ -z $target ]]; then
        resolve_nextflow
        target=$PWD/$OWN_NEXTFLOW
    fi
    printf '#!/usr/bin/env bash\nexec %q "$@"\n' "$target" > .tools/bin/nextflow
    chmod +x .tools/bin/nextflow
    echo "$target" > .tools/nextflow/target
    echo "$wanted" > "$NEXTFLOW_STAMP"
    say "Nextflow $(nextflow_version "$target"): $target"
}

setup_python() {
    local wanted
    wanted=$(digest requirements.txt requirements/*.txt pyproject.toml setup.py tools/setup.sh)
    if [[ -f $VENV_STAMP && $(< "$VENV_STAMP") == "$wanted" && -x .venv/bin/xtalfill ]]; then
        return
    fi
    .venv/bin/python -m pip --version > /dev/null 2>&1 || make_venv
    say "installing the Python packages into .venv (about 6 GB with torch; takes minutes)"
    local -a pip=(.venv/bin/python -m pip --disable-pip-version-check install --quiet --progress-bar off)
    "${pip[@]}" -c requirements/constraints.txt -r requirements.txt -r requirements/dev.txt ||
        die "pip could not install requirements.txt; see the lines above"
    "${pip[@]}" --no-deps -r requirements/mattergen.txt || die "pip could not install mattergen"
    "${pip[@]}" --no-deps --editable . || die "pip could not install xtalfill itself"
    echo "$wanted" > "$VENV_STAMP"
}

# Optional: --validate and its tests run pw.x with mpirun; ld1.x generates a pseudopotential for
# the tests.
have pw.x || apt_install quantum-espresso
have mpirun || apt_install openmpi-bin
have pw.x || say "pw.x not found: --validate is not available and its tests are skipped (Debian: quantum-espresso)"

# Nextflow uses ps for its task metrics.
have ps || apt_install procps
have ps || die "Nextflow needs the command ps (Debian: procps)"
setup_nextflow
setup_python
