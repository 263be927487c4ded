"""The science of Oversight: attack, answer, critique, select, learn, measure. No Django here."""
