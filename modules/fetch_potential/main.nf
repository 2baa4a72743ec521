// FETCH_POTENTIAL: downloads a published potential, so that tasks on compute nodes need no network.

process FETCH_POTENTIAL {
    tag "${name}"
    label 'process_single'

    input:
    tuple val(meta), val(name) // [id: 'mlip'], e.g. 'nequix-oam-1'
    val code                   // digest of the code; part of the hash

    output:
    tuple val(meta), path('*.{nequip.zip,nqx}'), emit: model
    path "fetch_potential_${meta.id}.json", emit: record

    script:
    """
    fetch_potential.py \\
        --name ${name} \\
        --output ${Potentials.fileName(name)} \\
        --record fetch_potential_${meta.id}.json
    """

    stub:
    """
    touch ${Potentials.fileName(name)}
    echo '{}' > fetch_potential_${meta.id}.json
    """
}
