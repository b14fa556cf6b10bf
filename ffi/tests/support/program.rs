//! C and C++ programs, built against the library and run with it.
