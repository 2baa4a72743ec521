// REPORT: writes the self-contained report.html and provenance.json.

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
    path 'provenance.json', emit: provenance

    script:
    """
    cat > params.json <<'END_OF_JSON'
    ${provenance}
    END_OF_JSON
    report.py \\
        --check ${check} \\
        --batches batches/*.h5 \\
        --evaluation ${evaluation} \\
        --records records/*.json \\
        --params params.json \\
        --outdir .
    """

    stub:
    """
    touch report.html
    echo '{}' > provenance.json
    """
}
