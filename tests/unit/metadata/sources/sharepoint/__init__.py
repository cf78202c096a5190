"""Tests of SharePoint."""
