"""What programs ask of meters, in the words of each kind and of no language: one module for each kind.

A module has the protocol that a `headend.drivers.contract.Conversation` fulfils beside where its language
can do it, ``runtime_checkable``, and the shapes of what it gives. Whether it is there is asked when a
conversation is open; that all of it is there, with these signatures, the type checker sees at the end of each
driver.
"""
