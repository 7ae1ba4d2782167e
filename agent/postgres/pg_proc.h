/*
 * pg_proc.h - which processes hold a certain pipe, from /proc.
 */
#ifndef HA_POSTGRES_PG_PROC_H
#define HA_POSTGRES_PG_PROC_H

#include <stddef.h>
#include <sys/types.h>

/*
 * Sends `signal` to every process but this one and `spare` that holds the pipe with that inode.
 * Returns how many there were. A process whose /proc entry may not be read is passed over.
 */
size_t pg_proc_signal_holders(ino_t pipe, pid_t spare, int signal);

#endif
