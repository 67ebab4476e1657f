/* A stand-in for the driver's library, as far as swiftshell asks it: two GPUs, one of them in use. */
#include <string.h>

typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory2_t;
typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } process_t;
typedef struct { unsigned gpu, memory; } utilization_t;

#define GIB (1ULL << 30)
static int index_of(void *handle) { return (int)((long)handle - 1); }

int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) { *handle = (void *)(long)(index + 1); return 0; }
int nvmlSystemGetDriverVersion(char *text, unsigned size) { strncpy(text, "570.1", size); return 0; }
int nvmlDeviceGetUUID(void *handle, char *text, unsigned size) {
    strncpy(text, index_of(handle) ? "GPU-1111" : "GPU-0000", size);
    return 0;
}
int nvmlDeviceGetName(void *handle, char *text, unsigned size) { (void)handle; strncpy(text, "Fake X1", size); return 0; }
int nvmlDeviceGetMemoryInfo_v2(void *handle, memory2_t *m) {
    if (m->version != (sizeof(memory2_t) | (2u << 24))) return 25;
    m->total = 80 * GIB; m->reserved = GIB / 2; m->used = index_of(handle) ? 12 * GIB : 0; m->free = m->total - m->used;
    return 0;
}
int nvmlDeviceGetMemoryInfo(void *handle, memory_t *m) { (void)handle; (void)m; return 3; }
int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *count, process_t *found) {
    if (!index_of(handle)) { *count = 0; return 0; }
    if (*count < 100) { *count = 100; return 7; } /* the caller's room is too small: it asks again with more */
    *count = 2;
    found[0].pid = 4242; found[0].used = 11 * GIB;
    found[1].pid = 4243; found[1].used = ~0ULL; /* not available */
    return 0;
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(void *handle, unsigned *count, process_t *found) {
    *count = index_of(handle) ? 0 : 1;
    if (*count) { found[0].pid = 99; found[0].used = GIB; }
    return 0;
}
int nvmlDeviceGetUtilizationRates(void *handle, utilization_t *u) { (void)handle; u->gpu = 87; u->memory = 10; return 0; }
int nvmlDeviceGetMigMode(void *handle, unsigned *now, unsigned *later) { (void)handle; *now = *later = 0; return 3; }
