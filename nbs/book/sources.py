"""Links between notebooks, and the sources of the book.

    python nbs/book/sources.py links            into the notebooks themselves
    python nbs/book/sources.py book FOLDER      what sphinx reads
"""
import sys

from vocalrep.papers.registry import find_papers
from vocalrep.report.book import write_book
from vocalrep.report.links import link_notebooks

if __name__ == "__main__":
    papers = find_papers().values()
    if sys.argv[1:] == ["links"]:
        print(f"{len(link_notebooks(papers))} notebooks have new links")
    elif len(sys.argv) == 3 and sys.argv[1] == "book":
        print(f"{len(write_book(papers, sys.argv[2]))} pages in {sys.argv[2]}")
    else:
        sys.exit(__doc__)
