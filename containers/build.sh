#!/usr/bin/env bash
# Builds the Apptainer images of xtalfill:  containers/build.sh [--mirror URL] [--output DIR] [IMAGE...]
#   --mirror URL   a Debian mirror: the base is then made with debootstrap, else from an OCI image
#   --output DIR   where the .sif files go (containers/)
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."

die() {
    echo "ERROR: $*" >&2
    exit 1
}

output=containers
arguments=()
images=()
while (($#)); do
    case $1 in
        --mirror)
            [[ -n ${2:-} ]] || die "--mirror needs the URL of a Debian mirror"
            arguments+=(--build-arg BOOTSTRAP=debootstrap --build-arg "MIRROR=$2")
            shift 2
            ;;
        --output)
            [[ -n ${2:-} ]] || die "--output needs a folder"
            output=$2
            shift 2
            ;;
        -*) die "unknown option $1: see the head of containers/build.sh" ;;
        *)
            [[ $1 =~ ^[a-z]+$ && -f containers/$1.def ]] || die "no recipe containers/$1.def"
            images+=("$1")
            shift
            ;;
    esac
done
if ((${#images[@]} == 0)); then
    for recipe in containers/*.def; do
        images+=("$(basename "$recipe" .def)")
    done
fi
command -v apptainer > /dev/null || die "apptainer is not on PATH: install Apptainer >= 1.2 to build images"
if [[ $EUID -ne 0 ]]; then
    arguments+=(--fakeroot)
fi

mkdir -p "$output"
for image in "${images[@]}"; do
    sif=$output/$image.sif
    stale=$(find "containers/$image.def" requirements ! -type d -newer "$sif" 2> /dev/null || echo missing)
    if [[ -z $stale ]]; then
        echo "images: $sif is up to date"
        continue
    fi
    echo "images: building $sif"
    apptainer build --force "${arguments[@]}" "$sif" "containers/$image.def"
done
