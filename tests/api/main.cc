// The suite as a program. Others run the same tests in their own way (tests/inject).
#include "harness.h"

int main(int argc, char **argv) { return api::suite_run(argc, argv); }
