"""Stages that measure and decide. Needs the extra ``judge``; never imports torch."""
