import nextflow.Nextflow

/** The potentials that --mlip and --mlip_rank name. */
class Potentials {

    /** The model file behind a potential; [] where it is a name, or none at all. */
    static Object file(String mlip) {
        mlip?.contains('.nequip.') ? Nextflow.file(mlip, glob: false) : []
    }
}
