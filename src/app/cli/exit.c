#include "app/cli/exit.h"

#include <stdio.h>

const dp_args_exit dp_exit_table[DP_EXIT_COUNT] = {
    { DP_EXIT_OK, "Done" },
    { DP_EXIT_FAILED, "Failed for a reason that has no number of its own" },
    { DP_EXIT_USAGE, "The command line, or what it asks for, makes no sense" },
    { DP_EXIT_NOTFOUND, "A file, tensor or key is not there" },
    { DP_EXIT_CORRUPT, "A file contradicts itself or is cut short" },
    { DP_EXIT_UNSUPPORTED, "A file is well formed, but not something doppler can run" },
    { DP_EXIT_MEMORY, "It does not fit: the memory budget, the memory of the system, the context "
                      "or another limit; the sentence says which number to change" },
    { DP_EXIT_IO, "The system failed to read or to write" },
    { DP_EXIT_INTERRUPTED, "Ended by Ctrl-C; what was ready has been written" },
    { DP_EXIT_READER_GONE, "The reader of standard output went away" },
};

int dp_exit_code(dp_status status)
{
    switch (status) {
    case DP_OK:
        return DP_EXIT_OK;
    case DP_E_INVALID:
        return DP_EXIT_USAGE;
    case DP_E_NOTFOUND:
        return DP_EXIT_NOTFOUND;
    case DP_E_CORRUPT:
        return DP_EXIT_CORRUPT;
    case DP_E_UNSUPPORTED:
        return DP_EXIT_UNSUPPORTED;
    case DP_E_NOMEM:
    case DP_E_LIMIT:
    case DP_E_BUDGET:
        return DP_EXIT_MEMORY;
    case DP_E_IO:
        return DP_EXIT_IO;
    case DP_E_CANCELED:
        return DP_EXIT_INTERRUPTED;
    case DP_E_BUSY:
    case DP_E_TIMEOUT:
    case DP_STATUS_COUNT:
        break;
    }
    return DP_EXIT_FAILED;
}

int dp_exit_report(dp_status status, const dp_error *err)
{
    if (status && status != DP_E_CANCELED)
        fprintf(stderr, "doppler: %s\n", err->text);
    return dp_exit_code(status);
}
