/* version.c -- what this program was built from and runs on. */
#include "cli.h"

#include "retort/graph.h"

#include <png.h>
#include <yaml.h>
#include <zip.h>
#include <zlib.h>

#if defined(__x86_64__)
static void features(FILE *f)
{
    __builtin_cpu_init();
    const struct {
        const char *name;
        int has;
    } list[] = {{"sse4.2", __builtin_cpu_supports("sse4.2")},
                {"avx2", __builtin_cpu_supports("avx2")},
                {"fma", __builtin_cpu_supports("fma")},
                {"avx512f", __builtin_cpu_supports("avx512f")},
                {"avx512bw", __builtin_cpu_supports("avx512bw")},
                {"avx512vnni", __builtin_cpu_supports("avx512vnni")},
                {"avx512bf16", __builtin_cpu_supports("avx512bf16")}};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (list[i].has) fprintf(f, " %s", list[i].name);
}
#else
static void features(FILE *f) { fputs(" (not known for this processor)", f); }
#endif

void cli_version(FILE *f)
{
    fprintf(f, "retort %s\nbackends:", RETORT_VERSION);
    for (const char *const *b = rt_backend_names(); *b; b++)
        fprintf(f, "%s %s %s", b == rt_backend_names() ? "" : ",", *b, rt_backend_version(rt_backend_find(*b)));
    fprintf(f, "\nlibraries: jansson %s, libyaml %s, libpng %s, libzip %s, zlib %s\n", jansson_version_str(), yaml_get_version_string(),
            png_get_libpng_ver(NULL), zip_libzip_version(), zlibVersion());
    fprintf(f, "kernels: %s (", rt_isa_name());
    const char *name;
    bool has;
    for (int i = 0; rt_isa_describe(i, &name, &has); i++)
        if (has) fprintf(f, "%s%s", i ? ", " : "this processor has ", name);
    fputs("; RETORT_ISA chooses)\nprocessor:", f);
    features(f);
    fprintf(f, "\nthreads: %d\n", rt_default_threads());
    fputs("compiler: " __VERSION__ "\n", f);
}
