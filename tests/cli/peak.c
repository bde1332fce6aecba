/* peak.c -- runs a command and prints the most resident memory that it took, in bytes, after the command's own output. Leaves with its exit code. */
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    int status;
    struct rusage usage;
    if (argc < 2) return 2;
    pid_t child = fork();
    if (child == 0) {
        execv(argv[1], argv + 1);
        return 127;
    }
    if (child < 0 || waitpid(child, &status, 0) < 0 || getrusage(RUSAGE_CHILDREN, &usage) != 0) return 1;
    printf("%ld\n", usage.ru_maxrss * 1024);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
