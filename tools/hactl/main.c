/*
 * hactl - asks the agents, and steers them.
 */
#include "tools/hactl/hactl.h"

int
main(int argc, char **argv)
{
    return (int)hactl_run(argc, argv, stdout, stderr);
}
