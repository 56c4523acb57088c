"""From raw folders to the tree that training reads, in two steps.

Step 1 lists a dataset's raw files: `generator` (a class per dataset, with `catalogue` and
`pairing`) or `layouts` (a known raw layout) make a `listing`. Step 2 prepares what is listed:
`run` sends every case to `convert` and writes the index. `split` takes patients for validation,
`check` verifies a tree, `command` and `options` are the command line.
"""
