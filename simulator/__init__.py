"""The simulator: the real flows over real PostgreSQL, under a seeded schedule of everything that can go wrong.

Time, queue, Lambda and partners are models; whatever they choose comes from one tape of integers, so that a seed can be
played again, made smaller and looked at. What a run does, in order:

    1. choose     the weather of the run: which faults are possible, and how often     choices.py, faults.py
    2. set up     one world with its time, its queue, its database and its functions   run.py, world.py, setting.py
    3. live       callers, workers and incidents, one step of one of them at a time    scheduler.py, callers.py,
                                                                                       functions.py, incidents.py,
                                                                                       managers.py
    4. break      each step goes through a seam, where it may fail                     seams.py, database.py, sqs.py,
                                                                                       client.py, partner.py
    5. calm down  faults stop; an operator does what only a person can; all must end   incidents.py
    6. judge      what arrived and what was told, against the rows and the documents   evidence.py, promises.py
    7. tell       the story of the run, and where it came                              trace.py, marks.py

pool.py runs seeds on all processors. shrinking.py makes the tape of a failing run small.
"""
