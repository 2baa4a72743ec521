// SOURCES: the files behind --input and --references, as inputs of the stage that reads them.

include { SHEET_FILES } from '../../modules/sheet_files/main'
include { FETCH_INPUT } from '../../modules/fetch_input/main'

workflow SOURCES {
    take:
    run        // Run: parameters, files, digests of the code
    references // [] without references

    main:
    def server = run.server('input')
    def input = server ? [] : run.given('input')

    SHEET_FILES(channel.fromList(InputFiles.sheets([input, references])), run.code('sheet_files.py'))

    // A stage gets the files that a sheet or a folder names as inputs: -resume sees a change, and a container can read them.
    ch_named = SHEET_FILES.out.names
        .flatMap { folder, names -> InputFiles.named(folder, names) }
        .mix(channel.fromList(InputFiles.inFolders([input, references])))
        .unique()
        .toSortedList { one, other -> one.toString() <=> other.toString() }

    // e.g. /work/a1/…/optimade.example.org.jsonl
    FETCH_INPUT(channel.fromList(server ? [server] : []), run.code('fetch_input.py'))
    ch_structures = server ? FETCH_INPUT.out.structures.first() : channel.value(input)

    emit:
    structures = ch_structures
    named = ch_named
    fetched = FETCH_INPUT.out.structures
    record = FETCH_INPUT.out.record
}
