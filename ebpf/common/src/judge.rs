//! Verdicts that need no kernel: placeholder
