// RELAX: relaxes the filled sites in the fixed host, then all positions, both in the fixed cell.

process RELAX {
    tag "${meta.id}"
    label 'process_gpu'

    input:
    tuple val(meta), path(batch, stageAs: 'input/*')
    path mlip_file // [] where settings.mlip is a name
    val settings   // [samples:, mlip:, sites_fmax:, sites_max_steps:, fmax:, max_steps:, max_atoms_per_batch:, device:]
    val code       // digest of the code; part of the hash

    output:
    tuple val(meta), path("${meta.id}.h5"), emit: batch
    path "relax_${meta.id}.json", emit: record

    script:
    """
    export OMP_NUM_THREADS=${task.cpus} MKL_NUM_THREADS=${task.cpus}
    relax.py \\
        --batch ${batch} \\
        --keep ${settings.samples} \\
        --mlip ${mlip_file ?: settings.mlip} \\
        --sites_fmax ${settings.sites_fmax} \\
        --sites_max_steps ${settings.sites_max_steps} \\
        --fmax ${settings.fmax} \\
        --max_steps ${settings.max_steps} \\
        --max_atoms_per_batch ${settings.max_atoms_per_batch} \\
        --device ${settings.device} \\
        --threads ${task.cpus} \\
        --output ${meta.id}.h5 \\
        --record relax_${meta.id}.json
    """

    stub:
    """
    touch ${meta.id}.h5
    echo '{}' > relax_${meta.id}.json
    """
}
