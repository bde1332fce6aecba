/* surface.c -- the surface of a volume, by marching cubes (Lorensen and Cline 1987) without a table of cases.
 *
 * A cell is crossed along those of its 12 edges that have one end inside. On each of its faces, seen from outside and walked counterclockwise, the boundary enters
 * the inside along some edges and leaves it along as many. The surface cuts the face along segments from an entry to an exit:
 *
 *     one entry, one exit      from this to that
 *     two of each              the inside corners lie at opposite ends: apart, from an entry to the exit behind that corner; joined, from an entry to the exit
 *                              before the outside corner. Joined where the bilinear interpolant's saddle is inside: a function of the face alone
 *
 * An edge lies on two faces, which walk it in opposite directions: an entry of one is an exit of the other. So segments of a cell join into loops, and the cell behind
 * a face sees its segments the other way round. Loops are filled with triangles none of whose inner edges lies in a face, where a neighbour could have the same edge.
 * A layer of nodes outside surrounds the volume, so the surface is closed. */
#include "base/internal.h"
#include "retort/mesh.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST = 12 };                   /* edges of a loop */
static const double NEAREST = 1.0 / 256; /* a crossing to an end of its edge, in edges: no triangle shrinks to a point */
static const int FACES[6][4] = {{0, 4, 6, 2}, {1, 3, 7, 5}, {0, 1, 5, 4},
                                {2, 6, 7, 3}, {0, 2, 3, 1}, {4, 5, 7, 6}}; /* x low, high, y, z; corner: x + 2 y + 4 z */

typedef struct sweep {
    const rt_volume *v;
    double level; /* of the raw density */
    rt_mesh *m;
    int64_t vertex_room, triangle_room;
    int32_t *crossings[3]; /* vertices on the edges along x, y, z that begin in two layers of nodes, -1: none; [2][H+2][W+2] */
    bool full;             /* memory is out, or there are more vertices than an index can name */
} sweep;

static size_t plane(const rt_volume *v) { return (size_t)(v->nodes[1] + 2) * (size_t)(v->nodes[2] + 2); }

static bool within(const rt_volume *v, const int at[3]) /* x, y, z */
{
    return at[0] >= 0 && at[1] >= 0 && at[2] >= 0 && at[0] < v->nodes[2] && at[1] < v->nodes[1] && at[2] < v->nodes[0];
}

static double density(const rt_volume *v, const int at[3])
{
    if (!within(v, at)) return -FLT_MAX;
    return (double)v->density[((size_t)at[2] * (size_t)v->nodes[1] + (size_t)at[1]) * (size_t)v->nodes[2] + (size_t)at[0]];
}

/* Differences of the nearest nodes, those beyond the box left out. */
static void add_gradient(const rt_volume *v, const int at[3], double weight, double sum[3])
{
    for (int axis = 0; axis < 3; axis++) {
        int low[3] = {at[0], at[1], at[2]}, high[3] = {at[0], at[1], at[2]}, n = v->nodes[2 - axis];
        low[axis] -= low[axis] > 0;
        high[axis] += high[axis] < n - 1;
        double distance = 2.0 / (n - 1) * (high[axis] - low[axis]);
        sum[axis] += weight * (density(v, high) - density(v, low)) / distance;
    }
}

static void make_unit(const double from[3], float to[3])
{
    double length = sqrt(from[0] * from[0] + from[1] * from[1] + from[2] * from[2]);
    for (int k = 0; k < 3; k++) to[k] = (float)(from[k] / length);
}

static void *more(void *list, int64_t room, size_t each, bool *full)
{
    void *larger = realloc(list, (size_t)room * each);
    if (!larger) *full = true;
    return larger ? larger : list;
}

/* -1 where there is no room. */
static int32_t add_vertex(sweep *s, const double position[3], const double normal[3])
{
    rt_mesh *m = s->m;
    if (m->n_vertices == s->vertex_room && !s->full) {
        int64_t room = 2 * s->vertex_room + 1024;
        s->full = room > INT32_MAX;
        if (!s->full) m->positions = more(m->positions, room, sizeof *m->positions, &s->full);
        if (!s->full) m->normals = more(m->normals, room, sizeof *m->normals, &s->full);
        if (!s->full) m->colours = more(m->colours, room, sizeof *m->colours, &s->full);
        if (!s->full) s->vertex_room = room;
    }
    if (s->full) return -1;
    double colour[3];
    int64_t i = m->n_vertices++;
    rt_volume_colour(s->v, position, colour);
    make_unit(normal, m->normals[i]);
    for (int k = 0; k < 3; k++) m->positions[i][k] = (float)position[k], m->colours[i][k] = (float)colour[k];
    return (int32_t)i;
}

static void add_triangle(sweep *s, int32_t a, int32_t b, int32_t c)
{
    rt_mesh *m = s->m;
    if (m->n_triangles == s->triangle_room && !s->full) {
        int64_t room = 2 * s->triangle_room + 1024;
        m->triangles = more(m->triangles, room, sizeof *m->triangles, &s->full);
        if (!s->full) s->triangle_room = room;
    }
    if (s->full) return;
    int32_t *t = m->triangles[m->n_triangles++];
    t[0] = a, t[1] = b, t[2] = c;
}

/* The vertex on the edge from node `at` along `axis`. */
static int32_t crossing(sweep *s, const int at[3], int axis)
{
    const rt_volume *v = s->v;
    int32_t *kept =
        s->crossings[axis] + (size_t)(at[2] & 1) * plane(v) + (size_t)(at[1] + 1) * (size_t)(v->nodes[2] + 2) + (size_t)(at[0] + 1);
    if (*kept >= 0) return *kept;
    int end[3] = {at[0], at[1], at[2]};
    end[axis]++;
    double a = density(v, at) - s->level, b = density(v, end) - s->level, t = fmin(fmax(a / (a - b), NEAREST), 1 - NEAREST);
    double position[3], normal[3] = {0};
    for (int k = 0; k < 3; k++) position[k] = -1 + 2 * (at[k] + (k == axis ? t : 0)) / (v->nodes[2 - k] - 1);
    if (within(v, at) && within(v, end)) {
        add_gradient(v, at, -(1 - t), normal);
        add_gradient(v, end, -t, normal);
    }
    double largest = fmax(fmax(fabs(normal[0]), fabs(normal[1])), fabs(normal[2]));
    if (!(largest > 0)) normal[axis] = a > b ? 1 : -1; /* on the box's faces, and where the density does not change */
    return *kept = add_vertex(s, position, normal);
}

/* Edges are numbered 8 axis + the corner that they begin in; faces they lie on are bits. */
static unsigned faces_of(int edge)
{
    unsigned faces = 0;
    for (int axis = 0; axis < 3; axis++)
        if (axis != edge >> 3) faces |= 1u << (2 * axis + (edge >> axis & 1));
    return faces;
}

static int edge_between(int a, int b) { return 8 * ((a ^ b) >> 1) + (a & b); }

/* next[edge] for the segments on all faces, -1 elsewhere. */
static void join_edges(const double values[8], unsigned inside, int next[24])
{
    for (int e = 0; e < 24; e++) next[e] = -1;
    for (int f = 0; f < 6; f++) {
        const int *c = FACES[f];
        int entries = 0;
        for (int i = 0; i < 4; i++) entries += !(inside >> c[i] & 1) && (inside >> c[(i + 1) & 3] & 1);
        int one = inside >> c[0] & 1 ? 0 : 1; /* with two entries: inside corners are c[one] and c[one + 2] */
        bool joined = entries == 2 && values[c[one]] * values[c[one + 2]] > values[c[1 - one]] * values[c[(3 - one)]];
        for (int i = 0; i < 4; i++) {
            if (inside >> c[i] & 1 || !(inside >> c[(i + 1) & 3] & 1)) continue;
            int exit = joined ? (i + 3) & 3 : (i + 1) & 3;
            while (!(inside >> c[exit] & 1) || inside >> c[(exit + 1) & 3] & 1) exit = (exit + 1) & 3;
            next[edge_between(c[i], c[(i + 1) & 3])] = edge_between(c[exit], c[(exit + 1) & 3]);
        }
    }
}

/* A fan from a corner whose inner edges lie in no face, or from the middle where no corner is such. */
static void fill_loop(sweep *s, int n, const int32_t *vertices, const unsigned *faces)
{
    for (int first = 0; first < n; first++) {
        bool free_of_faces = true;
        for (int j = 2; j < n - 1; j++) free_of_faces &= !(faces[first] & faces[(first + j) % n]);
        if (!free_of_faces) continue;
        for (int j = 1; j < n - 1; j++) add_triangle(s, vertices[first], vertices[(first + j) % n], vertices[(first + j + 1) % n]);
        return;
    }
    const rt_mesh *m = s->m;
    double position[3] = {0}, normal[3] = {0};
    for (int j = 0; j < n; j++)
        for (int k = 0; k < 3; k++) {
            position[k] += (double)m->positions[vertices[j]][k] / n;
            normal[k] += (double)m->normals[vertices[j]][k];
        }
    if (!(fabs(normal[0]) + fabs(normal[1]) + fabs(normal[2]) > 0)) normal[2] = 1;
    int32_t middle = add_vertex(s, position, normal);
    for (int j = 0; j < n; j++) add_triangle(s, middle, vertices[j], vertices[(j + 1) % n]);
}

static void cross_cell(sweep *s, const int at[3])
{
    double values[8];
    unsigned inside = 0;
    int next[24];
    for (int c = 0; c < 8; c++) {
        values[c] = density(s->v, (int[]){at[0] + (c & 1), at[1] + (c >> 1 & 1), at[2] + (c >> 2)}) - s->level;
        inside |= (unsigned)(values[c] >= 0) << c;
    }
    if (inside == 0 || inside == 255) return;
    join_edges(values, inside, next);
    for (int e = 0; e < 24; e++) {
        int32_t vertices[LONGEST];
        unsigned faces[LONGEST];
        int n = 0;
        for (int edge = e, after; next[edge] >= 0; edge = after, n++) {
            after = next[edge];
            next[edge] = -1;
            faces[n] = faces_of(edge);
            vertices[n] = crossing(s, (int[]){at[0] + (edge & 1), at[1] + (edge >> 1 & 1), at[2] + (edge >> 2 & 1)}, edge >> 3);
        }
        if (s->full) return;
        if (n > 0) fill_loop(s, n, vertices, faces);
    }
}

static void cross_all(sweep *s)
{
    const int *nodes = s->v->nodes;
    size_t layer = plane(s->v), bytes = layer * sizeof *s->crossings[0];
    for (int axis = 0; axis < 3; axis++) memset(s->crossings[axis], -1, 2 * bytes);
    for (int z = -1; z < nodes[0]; z++) {
        for (int axis = 0; axis < 2; axis++) memset(s->crossings[axis] + (size_t)((z + 1) & 1) * layer, -1, bytes);
        memset(s->crossings[2] + (size_t)(z & 1) * layer, -1, bytes);
        for (int y = -1; y < nodes[1]; y++)
            for (int x = -1; x < nodes[2] && !s->full; x++) cross_cell(s, (int[]){x, y, z});
    }
}

/* ---- components */

typedef struct component {
    int64_t first; /* triangle */
    double area;
} component;

static int64_t root(int32_t *parent, int64_t i)
{
    for (; parent[i] != i; i = parent[i]) parent[i] = parent[parent[i]];
    return i;
}

static void corners(const rt_mesh *m, int64_t t, double p[3][3])
{
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 3; k++) p[i][k] = (double)m->positions[m->triangles[t][i]][k];
}

/* Twice the triangle's area, as a vector outwards. */
static void cross_product(double p[3][3], double out[3])
{
    double a[3], b[3];
    for (int k = 0; k < 3; k++) a[k] = p[1][k] - p[0][k], b[k] = p[2][k] - p[0][k];
    for (int k = 0; k < 3; k++) out[k] = a[(k + 1) % 3] * b[(k + 2) % 3] - a[(k + 2) % 3] * b[(k + 1) % 3];
}

static double area(const rt_mesh *m, int64_t t)
{
    double p[3][3], n[3];
    corners(m, t, p);
    cross_product(p, n);
    return sqrt(n[0] * n[0] + n[1] * n[1] + n[2] * n[2]) / 2;
}

static int larger_first(const void *a, const void *b)
{
    const component *x = a, *y = b;
    return x->area != y->area ? (x->area < y->area) - (x->area > y->area) : (x->first > y->first) - (x->first < y->first);
}

/* The triangles of the `most` largest components, one component after the other, with their vertices in the order of their first use. */
static rt_status sort_components(rt_mesh *m, int most, rt_error *err)
{
    size_t nv = (size_t)m->n_vertices, nt = (size_t)m->n_triangles;
    int32_t *parent = malloc(nv * sizeof *parent), *rank = malloc(nv * sizeof *rank);
    component *list = calloc(nv, sizeof *list);
    int64_t *starts = calloc(nv + 1, sizeof *starts), n = 0;
    rt_mesh out = {.positions = malloc(nv * sizeof *out.positions),
                   .normals = malloc(nv * sizeof *out.normals),
                   .colours = malloc(nv * sizeof *out.colours),
                   .triangles = malloc(nt * sizeof *out.triangles)};
    bool room = parent && rank && list && starts && out.positions && out.normals && out.colours && out.triangles;
    if (room) {
        for (size_t i = 0; i < nv; i++) parent[i] = (int32_t)i, list[i].first = INT64_MAX;
        for (size_t t = 0; t < nt; t++)
            for (int k = 1; k < 3; k++) parent[root(parent, m->triangles[t][k])] = (int32_t)root(parent, m->triangles[t][0]);
        for (size_t t = nt; t-- > 0;) {
            component *c = &list[root(parent, m->triangles[t][0])];
            c->first = (int64_t)t;
            c->area += area(m, (int64_t)t);
        }
        for (size_t i = 0; i < nv; i++)
            if (list[i].first < INT64_MAX) list[n++] = list[i];
        qsort(list, (size_t)n, sizeof *list, larger_first);
        for (int64_t c = 0; c < n; c++) rank[root(parent, m->triangles[list[c].first][0])] = (int32_t)c;
        out.all_components = (int)n;
        out.n_components = most > 0 && most < n ? most : (int)n;
        for (size_t t = 0; t < nt; t++) starts[rank[root(parent, m->triangles[t][0])] + 1]++;
        for (int64_t c = 0; c < n; c++) starts[c + 1] += starts[c];
        out.n_triangles = starts[out.n_components];
        for (size_t t = 0; t < nt; t++) {
            int32_t c = rank[root(parent, m->triangles[t][0])];
            if (c < out.n_components) memcpy(out.triangles[starts[c]++], m->triangles[t], sizeof *out.triangles);
        }
        for (size_t i = 0; i < nv; i++) rank[i] = -1; /* from here on: the vertex's new number */
        for (int64_t t = 0; t < out.n_triangles; t++)
            for (int k = 0; k < 3; k++) {
                int32_t *v = &out.triangles[t][k], old = *v;
                if (rank[old] < 0) {
                    rank[old] = (int32_t)out.n_vertices;
                    memcpy(out.positions[out.n_vertices], m->positions[old], sizeof *out.positions);
                    memcpy(out.normals[out.n_vertices], m->normals[old], sizeof *out.normals);
                    memcpy(out.colours[out.n_vertices++], m->colours[old], sizeof *out.colours);
                }
                *v = rank[old];
            }
    }
    free(parent);
    free(rank);
    free(list);
    free(starts);
    rt_mesh_free(room ? m : &out);
    if (!room) RT_RAISE(RT_E_MEMORY, "out of memory for a surface of %zu vertices", nv);
    *m = out;
    return RT_OK;
}

rt_status rt_mesh_surface(rt_mesh *m, const rt_volume *v, double level, int components, rt_error *err)
{
    *m = (rt_mesh){0};
    if (!(level > 0 && level < 1)) RT_RAISE(RT_E_USAGE, "level: %g; must lie between 0 and 1", level);
    RT_TRY(rt_volume_check(v, err));
    double most = rt_volume_opacity(v);
    sweep s = {.v = v, .level = log(level / (1 - level)) - v->density_bias, .m = m};
    for (int axis = 0; axis < 3; axis++) {
        s.crossings[axis] = malloc(2 * plane(v) * sizeof *s.crossings[axis]);
        s.full |= !s.crossings[axis];
    }
    if (!s.full) cross_all(&s);
    for (int axis = 0; axis < 3; axis++) free(s.crossings[axis]);
    if (s.full) RT_RAISE(RT_E_MEMORY, "out of memory for a surface; %lld vertices so far", (long long)m->n_vertices);
    if (m->n_triangles == 0)
        RT_RAISE(RT_E_INVALID, "the surface is empty: the largest opacity of a cell is %.3g, below the level %g; take a --level below it",
                 most, level);
    RT_TRY(sort_components(m, components, err));
    for (int64_t t = 0; t < m->n_triangles; t++) {
        double p[3][3], n[3];
        corners(m, t, p);
        cross_product(p, n);
        m->area += area(m, t);
        for (int k = 0; k < 3; k++) m->volume += p[0][k] * n[k] / 6;
    }
    return RT_OK;
}

void rt_mesh_free(rt_mesh *m)
{
    free(m->positions);
    free(m->normals);
    free(m->colours);
    free(m->triangles);
    *m = (rt_mesh){0};
}
