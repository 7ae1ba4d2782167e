#include "tools/hactl/table.h"

#include <stdarg.h>
#include <string.h>

#define WIDTH_MAX (TABLE_COLUMNS_MAX * (TABLE_CELL_MAX + 3) + 2)

void
table_init(struct table *table, const char *title)
{
    memset(table, 0, sizeof *table);
    table->title = title;
}

void
table_column(struct table *table, const char *head, bool is_right)
{
    REQUIRE(table->n_columns < TABLE_COLUMNS_MAX, "few columns");
    table->heads[table->n_columns] = head;
    table->is_right[table->n_columns++] = is_right;
}

void
table_row(struct table *table, const char *color)
{
    if (table->n_rows < TABLE_ROWS_MAX) {
        table->n_rows++;
    }
    table->colors[table->n_rows - 1] = color;
    memset(table->cells[table->n_rows - 1], 0, sizeof table->cells[0]);
}

void
table_cell(struct table *table, size_t column, const char *fmt, ...)
{
    char *cell = table->cells[table->n_rows - 1][column];
    va_list args;

    REQUIRE(table->n_rows > 0 && column < table->n_columns, "a row was begun");
    va_start(args, fmt);
    (void)vsnprintf(cell, TABLE_CELL_MAX, fmt, args);
    va_end(args);
    /* A text of an agent must not steer the terminal. */
    for (; *cell != 0; cell++) {
        if ((unsigned char)*cell < 0x20 || *cell == 0x7f) {
            *cell = '?';
        }
    }
}

/* Characters, not bytes: bytes that go on with a character do not count. */
static size_t
width_of(const char *text)
{
    size_t n = 0;

    for (; *text != 0; text++) {
        n += ((unsigned char)*text & 0xc0) != 0x80;
    }
    return n;
}

static void
pad(FILE *to, char c, size_t n)
{
    while (n-- > 0) {
        (void)fputc(c, to);
    }
}

/* "+ Title ---+-----+": the title lies over the border, as far as it goes. */
static void
print_border(const struct table *t, const size_t *widths, const char *title, FILE *to)
{
    char line[WIDTH_MAX];
    size_t len = 0;

    line[len++] = '+';
    for (size_t c = 0; c < t->n_columns; c++) {
        memset(line + len, '-', widths[c] + 2);
        len += widths[c] + 2;
        line[len++] = '+';
    }
    line[len] = 0;
    if (title == NULL) {
        (void)fprintf(to, "%s\n", line);
        return;
    }
    (void)fprintf(to, "+ %s ", title);
    (void)fprintf(to, "%s\n", width_of(title) + 3 < len ? line + width_of(title) + 3 : "+");
}

static void
print_cell(const char *text, size_t width, bool is_right, FILE *to)
{
    const size_t n = width - width_of(text);

    (void)fputs("| ", to);
    pad(to, ' ', is_right ? n : 0);
    (void)fputs(text, to);
    pad(to, ' ', is_right ? 1 : n + 1);
}

void
table_print(const struct table *t, FILE *to)
{
    size_t widths[TABLE_COLUMNS_MAX];

    for (size_t c = 0; c < t->n_columns; c++) {
        widths[c] = width_of(t->heads[c]);
        for (size_t r = 0; r < t->n_rows; r++) {
            const size_t width = width_of(t->cells[r][c]);

            widths[c] = width > widths[c] ? width : widths[c];
        }
    }
    print_border(t, widths, t->title, to);
    for (size_t c = 0; c < t->n_columns; c++) {
        print_cell(t->heads[c], widths[c], t->is_right[c], to);
    }
    (void)fputs("|\n", to);
    print_border(t, widths, NULL, to);
    for (size_t r = 0; r < t->n_rows; r++) {
        (void)fputs(t->colors[r] == NULL ? "" : t->colors[r], to);
        for (size_t c = 0; c < t->n_columns; c++) {
            print_cell(t->cells[r][c], widths[c], t->is_right[c], to);
        }
        (void)fprintf(to, "|%s\n", t->colors[r] == NULL ? "" : "\x1b[0m");
    }
    print_border(t, widths, NULL, to);
}
