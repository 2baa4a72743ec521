// What the subworkflows that run pw.x share: one plan for the run, a task for each of its jobs, the results by batch.

// All batches in one list, for the plan. Sorted: the order in which tasks end must not change the hash.
def allBatches(ch_batch) {
    ch_batch
        .map { _meta, batch -> batch }
        .toSortedList { one, other -> one.name <=> other.name }
        .filter { batches -> batches }
}

// The jobs of a plan, those that it names first before the others, the largest first, e.g.
// [[id: 'batch_0007.12', batch: 'batch_0007', size: 1.02, core_seconds: …], /work/…/jobs/batch_0007.12.json]
def jobsOf(ch_jobs, ch_plan) {
    ch_jobs
        .combine(ch_plan)
        .flatMap { found -> Sizes.ofJobs(found.init(), found.last()) }
}

// Each batch with the results of its jobs, sorted; [] for a batch without a job.
def withResults(ch_batch, ch_result) {
    def ch_by_batch = ch_result
        .map { meta, result -> tuple(meta.batch, result) }
        .groupTuple(sort: { one, other -> one.name <=> other.name })
    ch_batch
        .map { meta, batch -> tuple(meta.id, meta, batch) }
        .join(ch_by_batch, remainder: true)
        .map { _id, meta, batch, results -> tuple(meta, batch, results ?: []) }
}
