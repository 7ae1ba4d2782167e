/*
 * table.h - a table of text in patronictl's shape.
 *
 * Memory: plain data, some 100 kB; texts are copied and cut.
 */
#ifndef HA_TOOLS_TABLE_H
#define HA_TOOLS_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/require.h"

#define TABLE_COLUMNS_MAX 12
#define TABLE_ROWS_MAX 80
#define TABLE_CELL_MAX 100

struct table {
    const char *title;
    size_t n_columns;
    const char *heads[TABLE_COLUMNS_MAX];
    bool is_right[TABLE_COLUMNS_MAX]; /* figures stand to the right */
    size_t n_rows;
    const char *colors[TABLE_ROWS_MAX]; /* an escape sequence, or NULL */
    char cells[TABLE_ROWS_MAX][TABLE_COLUMNS_MAX][TABLE_CELL_MAX];
};

void table_init(struct table *table, const char *title);
void table_column(struct table *table, const char *head, bool is_right);

/* Begins a row; a full table takes no more and its last row is written over. */
void table_row(struct table *table, const char *color);

/* A cell of the newest row. */
void table_cell(struct table *table, size_t column, const char *fmt, ...) HA_PRINTF(3, 4);

void table_print(const struct table *table, FILE *to);

#endif
