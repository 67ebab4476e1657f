"""The runner: one detached process per run that starts, watches and ends the worker of each step in order.

Standard library only, and of the product only what is too. It never imports an engine, never opens a model and never
trusts its own memory: whatever it knows is on disk before it acts on it, so that a new runner can go on where this one
was killed. Start it with `swiftshell.jobs.launch`; `python -m swiftshell.runner RUN_FOLDER` is what that does.

| module | what it does |
|---|---|
| `__main__` | detaches, takes the run's lock, says who it is |
| `steps` | goes through the steps: finished, restored, stopped, blocked, or run |
| `settle` | looks at an attempt another runner left: finish it, adopt its worker, or call it lost |
| `start` | intent, fork, identity, release |
| `watch` | follows a worker to its end; passes stop requests on |
| `finish` | exit record → output in place → published → result, each step of it repeatable |
| `publish` | the output lock and the copy at the place the user named |
| `records` | writes that survive a full disk; `state.json`; stop requests |
| `claim` | waits for the step's GPUs and holds them while its worker lives |
| `strangers` | notices who else computes on them |
"""
