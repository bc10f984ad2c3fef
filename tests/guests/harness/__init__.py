"""Real guests and drivers on a weir. Each program of tests/guests/ is the module of its name here; they share:

paths      where programs are
process    commands, and programs that run beside others
spaces     network namespaces with wires between them
daemon     a weir in a directory of its own
checks     what is done in Linux guests, one line a check
qemu, qmp  the processes that Linux guests are
hosts, switches, transfers      what `tcp` measures
"""
