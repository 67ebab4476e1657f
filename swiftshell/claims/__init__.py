"""Reserve GPUs for steps, among all users of a machine and without a daemon. Standard library only: the runner uses it.

Whoever wants GPUs leaves a ticket and looks again every second; whoever is first and can be served takes the GPUs' locks.
A lock is `flock` on an open file that the job inherits, so it is free the moment runner and job are both gone, and not
before. Locks say what is intended, the driver says what is: a GPU is free only if both say so.

| module | what it does |
|---|---|
| `area` | where locks, tickets and records lie: the machine's shared folder, or the user's own |
| `tickets` | who waits: one file each, alive while its owner holds the file's lock |
| `holders` | who holds which GPU: probing locks, records for people |
| `view` | the GPUs as seen by a claim: free, held, used by others, unknown |
| `usage` | what each user had lately, old use counting less |
| `decide` | whose turn it is; a pure function of tickets and view |
| `reason` | why somebody waits, in one sentence that names who and what |
| `claim` | the steps from a ticket to held GPUs |
| `board` | what views show of all this |
"""
