import java.nio.file.Path
import nextflow.Nextflow

/** The files of the DFT calculations: protocol, table of pseudopotentials, cost model, pseudopotentials. */
class Validation {

    /** Pseudopotentials of the Debian package quantum-espresso-data-sssp, which the image dft has. */
    static final String PSEUDOS_OF_DEBIAN = '/usr/share/espresso/pseudo'

    /** The files of a validation: [protocol:, table:, cost:, pseudo_dir:]; pseudo_dir is [] where none is given. */
    static Map files(Map settings, Path assets) {
        [
            protocol  : assets.resolve("protocols/${settings.protocol}.yaml"),
            table     : settings.pseudo_table ? Nextflow.file(settings.pseudo_table, glob: false)
                : assets.resolve('sssp/sssp_1.3.0_pbe_efficiency.json'),
            cost      : assets.resolve('dft_cost.json'),
            pseudo_dir: settings.pseudo_dir ? Nextflow.file(settings.pseudo_dir, glob: false) : [],
        ]
    }
}
