"""Answers what agents did: runs, sessions and single events, as lists, trees and differences."""
