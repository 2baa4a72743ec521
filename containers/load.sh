#!/usr/bin/env bash
# Imports images of build.sh into a container engine:
#   containers/load.sh [--images DIR] docker|podman [IMAGE...]
#   --images DIR   folder of the images (default: containers/)
#   IMAGE          tools, dft, relax or inpaint (default: all)
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."

die() {
    echo "ERROR: $*" >&2
    exit 1
}

load() {
    local sif=$images/xtalfill-$1-$version.sif name=xtalfill-$1:$version variable
    local -a changes=()
    [[ -f $sif ]] || die "$sif does not exist; build it with containers/build.sh $1"
    # Variables set in %environment of the recipe.
    for variable in PATH PYTHONNOUSERSITE; do
        changes+=(--change "ENV $variable=$(apptainer exec --cleanenv --no-home "$sif" printenv "$variable")")
    done
    apptainer build --force --sandbox "$scratch/$1" "$sif"
    tar -C "$scratch/$1" --numeric-owner --owner=0 --group=0 -c . | "$engine" import "${changes[@]}" - "$name" > /dev/null
    rm -rf "${scratch:?}/$1"
    echo "images: $name imported into $engine"
}

images=containers
if [[ ${1:-} == --images ]]; then
    [[ -n ${2:-} ]] || die "--images needs a folder"
    images=$2
    shift 2
fi
engine=${1:-}
[[ $engine == docker || $engine == podman ]] || die "give the engine: containers/load.sh docker or containers/load.sh podman"
shift
for program in apptainer "$engine"; do
    command -v "$program" > /dev/null || die "$program is not on PATH"
done
version=$(sed -nE "s/^ +version += '([^']+)'$/\1/p" nextflow.config)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
(($#)) || set -- tools dft relax inpaint
for image; do
    load "$image"
done
