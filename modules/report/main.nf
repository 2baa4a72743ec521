// REPORT: writes the self-contained report.html, provenance.json and the metadata of the RO-Crate that the results are.

process REPORT {
    label 'process_single'

    input:
    path check
    path batches, stageAs: 'batches/*'
    path evaluation
    path records, stageAs: 'records/*'
    val provenance // parameters and versions of the run, JSON on one line
    val code       // digest of the code; part of the hash

    output:
    path 'report.html', emit: report
    tuple path('provenance.json'), path('ro-crate-metadata.json'), path('pipeline_info'), emit: provenance

    script:
    def main_script = file("${projectDir}/main.nf").bytes.encodeBase64() // part of the crate
    """
    cat > params.json <<'END_OF_JSON'
    ${provenance}
    END_OF_JSON
    mkdir pipeline_info
    echo '${main_script}' | base64 -d > pipeline_info/main.nf
    report.py \\
        --check ${check} \\
        --batches ${batches ? 'batches/*.h5' : ''} \\
        --evaluation ${evaluation} \\
        --records ${records ? 'records/*.json' : ''} \\
        --params params.json \\
        --workflow pipeline_info/main.nf \\
        --outdir .
    """

    stub:
    """
    mkdir pipeline_info
    touch report.html pipeline_info/main.nf
    echo '{}' | tee provenance.json > ro-crate-metadata.json
    """
}
