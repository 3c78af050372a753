/* doctor.h - what this machine offers a model: processor, memory, devices that compute, drives.
 *
 * Room     Facts with their evidence, measured rates of memory and drives, and
 *          the file in which a program keeps the latter. Numbers that are not
 *          known are 0, texts "". Keys of the JSON that `doppler doctor` prints
 *          are the names here.
 *
 * Threads  Any; results belong to the caller and hold no pointers.
 */
#ifndef DOPPLER_DOCTOR_H
#define DOPPLER_DOCTOR_H

#include <stdbool.h>
#include "doppler/options.h"

#ifdef __cplusplus
extern "C" {
#endif

#define DP_NODES_MAX    64 /* memory nodes of a large server with memory of other kinds */
#define DP_GPUS_MAX     16
#define DP_EVIDENCE_MAX 12
#define DP_NAME_MAX     64
#define DP_PATH_MAX     512
#define DP_LINE_MAX     200

typedef struct dp_cpu_info {
    char name[DP_NAME_MAX];
    char kernels[24];                /* the table that runs: "x86.avx512vnni" */
    char kernels_limit[DP_LINE_MAX]; /* why no better one does, "" when it is the best there is */
    uint32_t package_count, core_count, thread_count; /* that are switched on */
    bool has_smt;                                     /* cores run several threads */
    uint32_t affinity_count;                          /* this process may run on */
    uint32_t quota_count;                             /* cgroup, in processors; 0: none */
    uint32_t usable_count;                            /* what --threads 0 takes */
    uint64_t l1_bytes, l2_bytes, l3_bytes;            /* of one data cache ... */
    uint32_t l1_count, l2_count, l3_count;            /* ... and how many there are */
} dp_cpu_info;

typedef struct dp_memory_node {
    uint32_t id;
    uint64_t bytes;
    uint32_t thread_count; /* processors near it; 0: memory of a device, or an expansion */
    char kind[24];         /* "DRAM", "HBM", "NVM", ...: as the system calls it */
} dp_memory_node;

typedef struct dp_memory_info {
    uint64_t total_bytes, available_bytes;
    uint64_t room_bytes;         /* what could be taken: the least of all that limits */
    uint64_t cgroup_limit_bytes; /* 0: none */
    uint64_t cgroup_used_bytes;
    uint64_t swap_bytes, swap_free_bytes;
    char overcommit[16]; /* "heuristic", "always", "never" */
    bool has_pressure;   /* the system tells how long tasks wait for memory */
    char huge_pages[16]; /* "always", "madvise", "never" */
    double bandwidth_bytes_s;
    uint32_t bandwidth_threads; /* it was measured with */
    uint32_t node_count;
    dp_memory_node nodes[DP_NODES_MAX];
} dp_memory_info;

typedef enum dp_gpu_kind {
    DP_GPU_UNKNOWN,
    DP_GPU_DISCRETE,   /* memory of its own behind a bus */
    DP_GPU_INTEGRATED, /* computes in the system's memory */
    DP_GPU_COHERENT,   /* memory of its own that the processor addresses as a node */
    DP_GPU_DISPLAY     /* shows pictures: a virtual machine's, a server's remote console */
} dp_gpu_kind;

typedef struct dp_gpu_info {
    char name[DP_NAME_MAX];   /* "NVIDIA GH200 480GB", or vendor and device number */
    char vendor[24];          /* "Intel", "AMD", "NVIDIA", "Apple", ... */
    char source[24];          /* where it was found: "drm", "nvidia", "vulkan" */
    char device[DP_NAME_MAX]; /* "card0", a bus address */
    dp_gpu_kind kind;
    uint64_t own_bytes;    /* memory of its own, or set aside for it */
    uint64_t shared_bytes; /* of the system's memory it may use */
    uint32_t vendor_id;    /* PCI */
} dp_gpu_info;

typedef enum dp_memory_model {
    DP_MEMORY_UNKNOWN,  /* something is there, and nothing tells what */
    DP_MEMORY_HOST,     /* no device that computes: one memory, the processor's */
    DP_MEMORY_SEPARATE, /* devices with memory of their own: bytes have to be copied */
    DP_MEMORY_UNIFIED,  /* devices compute in the system's memory: nothing has to be copied */
    DP_MEMORY_COHERENT  /* two memories, one address space */
} dp_memory_model;

typedef struct dp_gpus_info {
    dp_memory_model model;
    bool has_vulkan; /* a loader and at least one driver */
    uint32_t gpu_count;
    dp_gpu_info gpus[DP_GPUS_MAX];
    uint32_t evidence_count;
    char evidence[DP_EVIDENCE_MAX][DP_LINE_MAX]; /* what the verdict rests on, a sentence each */
} dp_gpus_info;

/* "separate", "integrated", ...: stable names for scripts. */
DP_API const char *dp_memory_model_name(dp_memory_model model);
DP_API const char *dp_gpu_kind_name(dp_gpu_kind kind);

typedef struct dp_machine_info {
    char id[DP_NAME_MAX];     /* of this installation (machine-id) */
    char kernel[DP_NAME_MAX]; /* "6.1.0-13-amd64" */
    dp_cpu_info cpu;
    dp_memory_info memory;
    dp_gpus_info gpus;
} dp_machine_info;

/* Never fails: what cannot be found out stays unknown. Asks the Vulkan loader, if
 * there is one, which loads its drivers. */
DP_API void dp_doctor_machine(dp_machine_info *out);
/* Memory's bandwidth: threads (0: as many as a run takes) read through more bytes than
 * caches hold, for a fifth of a second. Fills two members. DP_E_NOMEM. */
DP_API dp_status dp_doctor_bandwidth(dp_memory_info *out, uint32_t threads, dp_error *err);

typedef struct dp_drive_info {
    char path[DP_PATH_MAX];   /* as asked */
    char mount[DP_PATH_MAX];  /* where its file system is mounted */
    char source[DP_PATH_MAX]; /* what is mounted: "/dev/nvme0n1p2", "server:/models" */
    char fs[32];              /* "ext4" */
    char device[DP_NAME_MAX]; /* whole drive: "nvme0n1"; "" when none is behind it */
    char model[DP_NAME_MAX];
    char layers[DP_LINE_MAX];             /* "dm-0 (crypt) > nvme0n1p2 > nvme0n1" */
    bool is_network, is_memory, is_layer; /* a server's; memory's; over another file system */
    bool is_encrypted;
    bool is_rotational;    /* as the system says, which of virtual drives says little */
    uint32_t device_count; /* drives below the lowest layer */
    uint64_t size_bytes, free_bytes;
    uint64_t read_ahead_bytes;                         /* of buffered reads */
    bool has_direct;                                   /* reads past the page cache */
    uint32_t direct_offset_align, direct_memory_align; /* of those */
} dp_drive_info;

/* The drive behind a file or a folder. DP_E_NOTFOUND, DP_E_IO. */
DP_API dp_status dp_doctor_drive(dp_drive_info *out, const char *path, dp_error *err);

/* ---- measured reads ---- */

#define DP_PROBE_VERSION   2 /* of the way it is measured: results of others are not used */
#define DP_PROBE_ROWS_MAX  96
#define DP_PROBE_SIZES_MAX 4

typedef struct dp_probe_row {
    char engine[12]; /* "io_uring", "threads" */
    bool is_direct;
    uint64_t request_bytes;
    uint32_t depth;
    double bytes_s; /* 0: not measured */
} dp_probe_row;

/* One read at a time at random places, in requests as `best` has them. */
typedef struct dp_probe_latency {
    uint64_t size_bytes;
    uint32_t count; /* of reads */
    uint64_t p50_ns, p99_ns, mean_ns;
} dp_probe_latency;

typedef struct dp_drive_probe {
    char machine[DP_NAME_MAX], kernel[DP_NAME_MAX]; /* what it holds for ... */
    char device[DP_LINE_MAX], fs[32];               /* ... layers or, without, source */
    uint32_t version;
    bool is_quick, is_saved;   /* is_saved: from a file, not from now */
    char skipped[DP_LINE_MAX]; /* why nothing was measured; "" when it was */
    uint64_t file_bytes;       /* that were read from, over and over */
    double seconds;            /* it took */
    dp_probe_row best;         /* smallest of those within 3 % of the fastest */
    double sustained_bytes_s; /* of that way when it goes on, after all the others: drives and hosts
                                 that allow bursts give less then. What predictions use */
    uint32_t row_count;
    dp_probe_row rows[DP_PROBE_ROWS_MAX];
    uint32_t latency_count;
    dp_probe_latency latencies[DP_PROBE_SIZES_MAX];
} dp_drive_probe;

typedef struct dp_probe_options {
    bool is_quick;          /* below 2 s instead of 10 */
    uint64_t scratch_bytes; /* of the file that is written where path is a folder or a small file;
                                0: 1 GiB, less where room is short */
} dp_probe_options;

/* Reads the file at drive->path, or a temporary file beside it, in many ways. What cannot be
 * probed (memory, no room, no right to write) says so in `skipped`. DP_E_IO, DP_E_NOMEM. */
DP_API dp_status dp_doctor_probe(dp_drive_probe *out, const dp_drive_info *drive,
                                 const dp_probe_options *options, dp_error *err);

/* A saved probe that holds for the drive on this machine. file: what a program keeps
 * them in (docs/doctor.md). False: none. A file that cannot be read is one line in the log. */
DP_API bool dp_doctor_saved(dp_drive_probe *out, const char *file, const dp_drive_info *drive);

/* Values of --io, --io-engine, --io-depth and --io-request that were left to doppler follow the
 * saved probe of the drive that model lies on, if there is one. */
DP_API void dp_doctor_advise(dp_options *options, const char *file, const char *model);

#ifdef __cplusplus
}
#endif
#endif
