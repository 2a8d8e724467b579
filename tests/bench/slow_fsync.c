/* Preloaded into every measured process: each fsync and fdatasync takes at least SLOW_FSYNC_MICROS.

   A virtual disk answers in 30 us while it has credit and in 10 ms when it has none, so it cannot be a baseline. A
   folder in memory behind this one can: every round, every database and every peer pays the same for durability. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

static void pause_for(void)
{
	static long micros = -1;
	if (micros < 0) {
		const char *given = getenv("SLOW_FSYNC_MICROS");
		micros = given ? atol(given) : 0;
	}
	struct timespec span = {micros / 1000000, (micros % 1000000) * 1000};
	if (micros > 0)
		clock_nanosleep(CLOCK_MONOTONIC, 0, &span, NULL);
}

int fsync(int file)
{
	static int (*real)(int);
	if (!real)
		real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
	pause_for();
	return real(file);
}

int fdatasync(int file)
{
	static int (*real)(int);
	if (!real)
		real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
	pause_for();
	return real(file);
}
