#include "app/cli/output.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "app/cli/exit.h"
#include "base/mem.h"
#include "base/status.h"

dp_status dp_output_open(dp_output **out, const char *path, dp_error *err)
{
    dp_output *output;
    struct stat info;

    *out = NULL;
    output = dp_alloc_zero(1, sizeof *output);
    if (!output)
        return dp_fail(err, DP_E_NOMEM, "%s: no memory to write it", path);
    output->is_line_start = true;
    output->name = "standard output";
    output->fd = STDOUT_FILENO;
    if (strcmp(path, "-") != 0) {
        output->name = path;
        output->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        if (output->fd < 0) {
            dp_free(output);
            return dp_fail_errno(err, DP_E_IO, errno, "%s: cannot write", path);
        }
        output->is_file = fstat(output->fd, &info) == 0 && S_ISREG(info.st_mode);
    }
    output->is_terminal = isatty(output->fd) == 1;
    *out = output;
    return DP_OK;
}

static bool write_all(dp_output *output, const char *bytes, size_t size)
{
    while (size > 0 && !output->error) {
        ssize_t done = write(output->fd, bytes, size);

        if (done > 0) {
            bytes += done;
            size -= (size_t)done;
        } else if (done < 0 && errno != EINTR) {
            output->error = errno;
        }
    }
    return !output->error;
}

bool dp_output_flush(dp_output *output)
{
    size_t used = output->used;

    output->used = 0;
    return write_all(output, output->buffer, used);
}

bool dp_output_write(dp_output *output, const void *bytes, size_t size)
{
    if (size > 0)
        output->is_line_start = ((const char *)bytes)[size - 1] == '\n';
    if (size > sizeof output->buffer - output->used && !dp_output_flush(output))
        return false;
    if (size > sizeof output->buffer)
        return write_all(output, bytes, size);
    if (size > 0)
        memcpy(output->buffer + output->used, bytes, size);
    output->used += size;
    return !output->error;
}

bool dp_output_text(dp_output *output, const char *text)
{
    return dp_output_write(output, text, strlen(text));
}

bool dp_output_is_reader_gone(const dp_output *output)
{
    return output->error == EPIPE;
}

void dp_output_discard(dp_output *output)
{
    output->is_discarded = true;
    output->used = 0;
}

dp_status dp_output_close(dp_output *output, dp_error *err)
{
    dp_status st = DP_OK;

    if (!output)
        return DP_OK;
    dp_output_flush(output);
    /* Some file systems tell only now that the disk is full. */
    if (close(output->fd) && !output->error)
        output->error = errno;
    if (output->error)
        st = dp_fail_errno(err, DP_E_IO, output->error, "%s: cannot write", output->name);
    if (output->is_file && (output->error || output->is_discarded))
        unlink(output->name);
    dp_free(output);
    return st;
}

int dp_output_end(dp_output *output, dp_status status, dp_error *err)
{
    bool is_reader_gone;
    dp_error write_err;
    dp_status st;

    if (!output)
        return dp_exit_report(status, err);
    dp_output_flush(output);
    is_reader_gone = dp_output_is_reader_gone(output);
    st = dp_output_close(output, &write_err);
    if (is_reader_gone)
        return DP_EXIT_READER_GONE;
    /* The step was canceled because writing failed: that is the reason to tell. */
    if (st && (!status || status == DP_E_CANCELED))
        return dp_exit_report(st, &write_err);
    return dp_exit_report(status, err);
}

int dp_output_report(const char *bytes, size_t size, dp_status status, dp_error *err)
{
    dp_output *output = NULL;

    if (!status)
        status = dp_output_open(&output, "-", err);
    if (!status)
        dp_output_write(output, bytes, size);
    return dp_output_end(output, status, err);
}

int dp_output_print(const char *text, size_t size)
{
    dp_error err;

    return dp_output_report(text, size, DP_OK, &err);
}
