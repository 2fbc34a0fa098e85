"""Runs the portal on this machine: its databases, web server, worker and timetable, as one process tree.

`python -m lab.stack --help` lists the commands. A stack has a name (demo, test, bench); its data is kept
under var/NAME/, and what lives only as long as its processes is under /run/berth/NAME/.
"""
