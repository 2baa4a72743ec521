// SHEET_FILES: lists the structure files that a sample sheet names, so that CHECK gets them as inputs.
// A stub run reads the sheet, too: the command takes milliseconds, and -resume has to see changed files.

process SHEET_FILES {
    tag "${sheet.fileName.name}"
    label 'process_single'

    input:
    tuple val(folder), path(sheet, stageAs: 'input/*') // the folder that the names are relative to
    val code                                           // digest of the code; part of the hash

    output:
    tuple val(folder), path('names.txt'), emit: names

    script:
    """
    sheet_files.py --sheet ${sheet} --output names.txt
    """

    stub:
    """
    sheet_files.py --sheet ${sheet} --output names.txt
    """
}
