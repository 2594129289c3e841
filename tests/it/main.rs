mod grid;
